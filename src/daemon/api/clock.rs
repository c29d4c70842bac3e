//! `POST /v1/admin/clock/trust`: somebody looked at the machine's wall clock and says that it is right (H5).

use usherd_contract::answers::Done;
use usherd_engine::Now;

use super::routes::{Allowed, HandlerResult};
use super::{Worker, json};
use crate::answers::Timestamp;
use crate::answers::operation::ClockTrust;
use crate::daemon::app::timeline::WINDOW_MS;
use crate::daemon::http::Problem;
use crate::daemon::journal::{Audit, AuditKind};
use crate::daemon::text::rfc3339;

impl Worker {
    /// Checks that a change made now may be dated. A request is no decision about a call: it waits.
    ///
    /// # Errors
    /// 503 while nobody trusts the wall clock; nothing is wrong with the request, and later it is taken as it is.
    pub(super) fn need_date(&self, now: Now) -> Result<(), Problem> {
        if self.app.deciding.is_clock_trusted(now) {
            return Ok(());
        }
        let wait = self.app.deciding.timeline.lock().wait(now);
        let for_proof = wait.is_some_and(|wait| wait.for_proof);
        let left_ms = wait.map_or(WINDOW_MS, |wait| wait.until_uptime_ms.saturating_sub(now.uptime_ms));
        // Where it has to be confirmed the window is the least.
        let left_s = left_ms.max(if for_proof { WINDOW_MS } else { 1 }).div_ceil(1_000);
        let shown = rfc3339(now.utc_ms);
        let until = if for_proof {
            "where it is right say `usherd clock trust`, else correct it; 10 minutes later requests are taken"
        } else {
            "requests are taken 10 minutes after its last step, and nothing shortens these, not `usherd clock trust`"
        };
        let detail = format!(
            "nothing was changed: the request would be dated by the wall clock, {shown}, which stepped and is not trusted: {until}"
        );
        Err(Problem::unavailable(u32::try_from(left_s).unwrap_or(u32::MAX), detail))
    }

    /// After a step over a stop nothing else is waited for then but the ten minutes, which a hand does not shorten.
    pub(super) async fn trust_clock(&self, allowed: Allowed) -> HandlerResult {
        let access = allowed.access();
        let now = self.app.deciding.clock.now();
        let wait = {
            let mut timeline = self.app.deciding.timeline.lock();
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
        self.decide_durably(now, |_, group, _| {
            if let Some(group) = group {
                let text = format!("trust the clock: {message}");
                group.audit(&Audit { actor: &access.id, text: &text, ..Audit::new(AuditKind::Admin) });
            }
            Ok(())
        })
        .await?;
        tracing::info!(actor = access.id, "{message}");
        Ok(json(&ClockTrust {
            code: Done::Ok.into(),
            at: shown.into(),
            trusted_at: trusted_at.map(Timestamp::from),
            message,
        }))
    }
}
