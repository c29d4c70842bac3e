//! The closed set of HTTP routes, as label values.

use usherd_contract::vocabulary;

vocabulary! {
    /// The purpose of a request; the label `route`.
    Route {
        /// `POST /v1/acquire`.
        Acquire = "acquire",
        /// `POST /v1/release`.
        Release = "release",
        /// `POST /v1/batch`.
        Batch = "batch",
        /// `POST /v1/explain`.
        Explain = "explain",
        /// `POST /v1/nodes/{node}/hello`.
        Hello = "hello",
        /// `POST /v1/nodes/{node}/heartbeat`.
        Heartbeat = "heartbeat",
        /// `POST /v1/nodes/{node}/inventory`.
        Inventory = "inventory",
        /// `POST /v1/nodes/{node}/goodbye`.
        Goodbye = "goodbye",
        /// `GET /v1/tenants`.
        Tenants = "tenants",
        /// `GET /v1/tenants/{tenant}`.
        Tenant = "tenant",
        /// `GET /v1/tenants/{tenant}/subjects`, and one of them.
        Subjects = "subjects",
        /// `GET /v1/tenants/{tenant}/sessions`, and one of them.
        Sessions = "sessions",
        /// `POST /v1/tenants/{tenant}/endpoints/check`.
        EndpointsCheck = "endpoints_check",
        /// `GET /v1/tenants/{tenant}/usage`.
        Usage = "usage",
        /// `GET /v1/tenants/{tenant}/whatif`.
        Whatif = "whatif",
        /// `GET /v1/nodes`.
        Nodes = "nodes",
        /// `GET /v1/overview`.
        Overview = "overview",
        /// `GET /v1/cluster`.
        Cluster = "cluster",
        /// `POST /v1/cluster/handover`.
        ClusterHandover = "cluster_handover",
        /// `POST /v1/cluster/leave`.
        ClusterLeave = "cluster_leave",
        /// `GET /v1/size`.
        Size = "size",
        /// `GET /v1/quote`.
        Quote = "quote",
        /// `GET /v1/events`.
        Events = "events",
        /// `POST /v1/admin/reload`.
        Reload = "reload",
        /// `GET /v1/admin/config`.
        Config = "config",
        /// `PUT /v1/admin/log-level`.
        LogLevel = "log_level",
        /// `POST /v1/admin/clock/trust`.
        ClockTrust = "clock_trust",
        /// `DELETE /v1/nodes/{node}`.
        ForgetNode = "forget_node",
        /// `GET /v1/admin/webhooks`.
        Webhooks = "webhooks",
        /// `GET /v1/admin/webhooks/{webhook}/deliveries`.
        WebhookDeliveries = "webhook_deliveries",
        /// `POST /v1/admin/webhooks/{webhook}/test`.
        WebhookTest = "webhook_test",
        /// `DELETE /v1/tenants/{tenant}/sessions/{session}`.
        EndSession = "end_session",
        /// `DELETE /v1/tenants/{tenant}/subjects/{subject}`.
        EndSubject = "end_subject",
        /// `POST /v1/tenants/{tenant}/subscription`.
        Subscription = "subscription",
        /// `GET /metrics`.
        Metrics = "metrics",
        /// `GET /livez`.
        Livez = "livez",
        /// `GET /readyz`.
        Readyz = "readyz",
        /// `GET /openapi.json`.
        Openapi = "openapi",
        /// `GET /v1/prometheus/sd`.
        PrometheusSd = "prometheus_sd",
        /// `GET /`, and what the page needs.
        Dashboard = "dashboard",
        /// Nothing of the above.
        Other = "other",
    }
}

impl Route {
    /// The method it is meant to be called with.
    pub const fn method(self) -> Method {
        match self {
            Route::Acquire
            | Route::Release
            | Route::Batch
            | Route::Explain
            | Route::Hello
            | Route::Heartbeat
            | Route::Inventory
            | Route::Goodbye
            | Route::EndpointsCheck
            | Route::Reload
            | Route::ClockTrust
            | Route::WebhookTest
            | Route::ClusterHandover
            | Route::ClusterLeave
            | Route::Subscription => Method::Post,
            Route::LogLevel => Method::Put,
            Route::EndSession | Route::EndSubject | Route::ForgetNode => Method::Delete,
            _ => Method::Get,
        }
    }
}

vocabulary! {
    /// The label `method`.
    Method {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// DELETE.
        Delete = "DELETE",
        /// Any other, so that a client cannot make series.
        Other = "other",
    }
}

impl From<&http::Method> for Method {
    fn from(method: &http::Method) -> Self {
        match *method {
            http::Method::GET => Method::Get,
            http::Method::HEAD => Method::Head,
            http::Method::POST => Method::Post,
            http::Method::PUT => Method::Put,
            http::Method::DELETE => Method::Delete,
            _ => Method::Other,
        }
    }
}

/// The statuses that have a label value of their own; any other is counted as `other`.
pub const STATUSES: [u16; 24] = [
    100, 200, 202, 204, 301, 304, 400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 414, 415, 422, 429, 431, 500, 501,
    503,
];

/// The position of a status among the label values; the last is `other`.
pub(super) fn status_index(status: u16) -> usize {
    STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_snake_case() {
        for route in Route::ALL {
            assert!(route.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{route:?}");
        }
    }
}
