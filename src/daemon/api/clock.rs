//! `POST /v1/admin/clock/trust`: somebody looked at the machine's wall clock and says that it is right (H5).

use http::Response;
use serde_json::json;

use super::{Call, Worker, json};
use crate::daemon::http::auth::RouteClass;
use crate::daemon::http::{Problem, ReplyBody};
use crate::daemon::journal::{Audit, AuditKind};
use crate::daemon::text::rfc3339;

impl Worker {
    /// After a step over a stop nothing else is waited for then but the ten minutes, which a hand does not shorten.
    pub(super) async fn trust_clock(&self, call: &Call<'_>) -> Result<Response<ReplyBody>, Problem> {
        let access = self.permitted(call, RouteClass::Admin, None)?;
        let now = self.app.now();
        let wait = {
            let mut timeline = self.app.timeline.lock();
            timeline.prove();
            timeline.wait(now)
        };
        let shown = rfc3339(now.utc_ms);
        let trusted_at = wait.map(|wait| {
            rfc3339(now.utc_ms.saturating_add_unsigned(wait.until_uptime_ms.saturating_sub(now.uptime_ms)))
        });
        let message = match &trusted_at {
            Some(at) => format!("the wall clock, {shown}, is trusted from {at} on"),
            None => format!("the wall clock, {shown}, is trusted already, or will be within a second"),
        };
        self.settled(now, |_, group, _| {
            if let Some(group) = group {
                let text = format!("trust the clock: {message}");
                group.audit(&Audit { actor: &access.id, text: &text, ..Audit::new(AuditKind::Admin) });
            }
            Ok(())
        })
        .await?;
        tracing::info!(actor = access.id, "{message}");
        Ok(json(&json!({ "code": "ok", "at": shown, "trusted_at": trusted_at, "message": message })))
    }
}
