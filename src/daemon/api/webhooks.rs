//! Webhooks as admins see them (API 5): their state, their log of deliveries, and a test by hand.

use std::time::Duration;

use super::routes::{Allowed, Call, HandlerResult};
use super::{Worker, json};
use crate::answers::webhooks::{WebhookDeliveries, WebhookDelivery, Webhooks};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::journal::{Audit, AuditKind};

/// Deliveries of one page.
const PAGE_MAX: usize = 1_000;
/// Beyond the deadline of the try itself: it may have to wait for its turn.
const PATIENCE_S: u64 = 5;

impl Worker {
    /// `GET /v1/admin/webhooks`
    pub(super) fn list_webhooks(&self) -> HandlerResult {
        Ok(json(&Webhooks { webhooks: self.app.publishing.webhooks.list() }))
    }

    /// `GET /v1/admin/webhooks/{name}/deliveries?after=&limit=`
    pub(super) fn webhook_deliveries(&self, call: &Call<'_>) -> HandlerResult {
        let (name, query) = (call.variable(0)?, call.query()?);
        let (after, limit) = query.page(PAGE_MAX)?;
        let number = if after.is_empty() { Ok(0) } else { after.parse() };
        let number = number.map_err(|_| query.fault("after", "must be the number of a delivery".to_owned()))?;
        let (page, has_more) =
            self.app.publishing.webhooks.deliveries(&name, number, limit).ok_or_else(|| no_webhook(&name))?;
        let next = page.last().filter(|_| has_more).map(|last| last.number.to_string());
        Ok(json(&WebhookDeliveries { deliveries: page.iter().map(WebhookDelivery::from).collect(), next }))
    }

    /// `POST /v1/admin/webhooks/{name}/test`: answers when the try is over.
    pub(super) async fn test_webhook(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let (access, name) = (allowed.access(), call.variable(0)?);
        let patience_s = self.app.publishing.webhooks.patience_s(&name).ok_or_else(|| no_webhook(&name))?;
        let busy = || Problem::unavailable(1, "too many webhooks are being tried already");
        let over = self.app.publishing.webhooks.test(&name).ok_or_else(busy)?;
        let now = self.app.deciding.clock.now();
        let text = format!("webhook {name} tried by hand");
        let (_, committed) = self.decide(now, |_, group, _| {
            if let Some(group) = group {
                group.audit(&Audit { actor: &access.id, text: &text, ..Audit::new(AuditKind::Admin) });
            }
        });
        committed.await;
        let patience = Duration::from_secs(u64::from(patience_s) + PATIENCE_S);
        match tokio::time::timeout(patience, over).await {
            Ok(Ok(entry)) => Ok(json(&WebhookDelivery::from(&entry))),
            Ok(Err(_)) => Err(no_webhook(&name)),
            Err(_) => Err(busy()),
        }
    }
}

fn no_webhook(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(ProblemKind::NotFound, format!("there is no webhook {name:?}; GET /v1/admin/webhooks lists them"))
}
