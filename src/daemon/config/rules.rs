//! The keys that may be set for all and for one tenant: `[policy]`, `[sessions]`, `[inclusive]`, `[deny]`.

use chrono_tz::Tz;
use usherd_contract::emergency;
use usherd_contract::file::Source;
use usherd_engine::plan::{Billing, Policy};
use usherd_engine::session::{Class, Name};
use usherd_subscription::policy::{
    AfterEnd, BillingPeriod, CancelAfterTerm, Downgrade, PendingConflict, PerSeat, PriceMode, Refund, Terms,
};

use super::origin::Effective;
use super::problem::Problems;
use super::reader::Table;
use super::value::{Cx, quoted};
use super::words::{Profile, TransferOut, TransferredOutbound};

/// Everything that may be set for all and for one tenant (rule book 11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `[policy]`.
    pub policy: PolicyRules,
    /// `[sessions]`.
    pub sessions: SessionRules,
    /// `[inclusive]`.
    pub inclusive: InclusiveRules,
    /// `[deny]`.
    pub deny: DenyRules,
}

/// `[policy]`: what customer and operator may ask for, and what follows (rule book 4, 7, 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRules {
    /// Presets of the keys below.
    pub profile: Profile,
    /// When a reduction is possible, and how it takes effect (J10).
    pub downgrade: Downgrade,
    /// The fate of a booked change when another one is asked for (J11).
    pub pending_conflict: PendingConflict,
    /// Permission to cancel with immediate effect (J12).
    pub cancel_immediate: bool,
    /// The instant at which a cancellation takes effect once the minimum term is over (J12).
    pub cancel_after_term: CancelAfterTerm,
    /// Permission for the customer to revoke the cancellation of a whole subscription (N7).
    pub revoke_full_by_customer: bool,
    /// The refund for a cancelled rest (N11).
    pub refund: Refund,
    /// The billing period (X2).
    pub billing: BillingPeriod,
    /// The action after an end, besides inbound-only mode (J6).
    pub after_end: AfterEnd,
    /// J6: how long clients stay after the end, seconds.
    pub end_drain_s: u32,
    /// J7: sync mode only; 0 = never.
    pub stale_after_days: u32,
    /// J4: the minimum term of a record that names none, months.
    pub term_months: u32,
    /// The way tiers make a price (K2).
    pub price_mode: PriceMode,
    /// Execution of a customer's cancellation of a subscription without an operator (N2).
    pub execute_subscription: bool,
    /// Execution of a customer's cancellation of an add-on without an operator (N2).
    pub execute_addon: bool,
    /// N2: cents a month.
    pub execute_below_cents: u32,
}

impl Default for PolicyRules {
    fn default() -> Self {
        PolicyRules {
            profile: Profile::Pascom,
            downgrade: Downgrade::Scheduled,
            pending_conflict: PendingConflict::Keep,
            cancel_immediate: false,
            cancel_after_term: CancelAfterTerm::MonthEnd,
            revoke_full_by_customer: false,
            refund: Refund::None,
            billing: BillingPeriod::Month,
            after_end: AfterEnd::InboundOnly,
            end_drain_s: 900,
            stale_after_days: 30,
            term_months: 12,
            price_mode: PriceMode::Volume,
            execute_subscription: true,
            execute_addon: true,
            execute_below_cents: 0,
        }
    }
}

/// The keys that a profile presets (rule book 10).
const PRESET_KEYS: &[&str] = &[
    "downgrade",
    "pending_conflict",
    "cancel_immediate",
    "revoke_full_by_customer",
    "cancel_after_term",
    "refund",
    "term_months",
];

impl PolicyRules {
    /// Presets the keys of a profile. The storefront takes the term from the record; where a record names
    /// none, the 12 months of the others apply.
    fn preset(&mut self, profile: Profile) {
        self.profile = profile;
        (self.downgrade, self.pending_conflict, self.cancel_immediate, self.cancel_after_term) = match profile {
            Profile::Pascom => (Downgrade::Scheduled, PendingConflict::Keep, false, CancelAfterTerm::MonthEnd),
            Profile::Pascom2019 => (Downgrade::RecreateNow, PendingConflict::Replace, true, CancelAfterTerm::TermEnd),
            Profile::Storefront => (Downgrade::Scheduled, PendingConflict::Reject, true, CancelAfterTerm::PeriodEnd),
        };
        self.revoke_full_by_customer = false;
        self.refund = Refund::None;
        self.term_months = 12;
    }

    fn read(&mut self, cx: &mut Cx<'_>, mut table: Table<'_, '_>) {
        let mut profile = self.profile;
        table.word(cx, "profile", &mut profile);
        if table.has("profile") {
            self.preset(profile);
            table.preset = Some((profile.as_str(), PRESET_KEYS));
        }
        table.word(cx, "downgrade", &mut self.downgrade);
        table.word(cx, "pending_conflict", &mut self.pending_conflict);
        table.flag(cx, "cancel_immediate", &mut self.cancel_immediate);
        table.word(cx, "cancel_after_term", &mut self.cancel_after_term);
        table.flag(cx, "revoke_full_by_customer", &mut self.revoke_full_by_customer);
        table.word(cx, "refund", &mut self.refund);
        table.word(cx, "billing", &mut self.billing);
        table.word(cx, "after_end", &mut self.after_end);
        table.int(cx, "end_drain_s", 0..=86_400, &mut self.end_drain_s);
        table.int(cx, "stale_after_days", 0..=3_650, &mut self.stale_after_days);
        table.int(cx, "term_months", 0..=120, &mut self.term_months);
        table.word(cx, "price_mode", &mut self.price_mode);
        table.flag(cx, "execute_subscription", &mut self.execute_subscription);
        table.flag(cx, "execute_addon", &mut self.execute_addon);
        table.int(cx, "execute_below_cents", 0..=u64::from(u32::MAX), &mut self.execute_below_cents);
        table.finish(cx);
    }
}

/// `[sessions]`: what counts (rule book 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// Calls to colleagues: counted or free for the caller (C4).
    pub internal_calls: Billing,
    /// Feature codes and services of the PBX: counted or free (C12).
    pub service_calls: Billing,
    /// Browser guests of a web conference: counted or free (B6).
    pub guests: Billing,
    /// Service identities such as TAPI and CRM: counted or free (B7).
    pub connectors: Billing,
    /// How long an inbound call that was transferred to outside is charged (C7).
    pub transfer_out: TransferOut,
    /// The payer of an originated call that was handed to a colleague (C8).
    pub transferred_outbound: TransferredOutbound,
    /// Classes of function extensions that are admitted above the quota (C18).
    pub never_deny: Vec<Class>,
    /// Numbers that are always allowed and need no seat (C14).
    pub emergency_numbers: Vec<Name>,
    /// Digits for an outside line, removed before an emergency number is matched (C14).
    pub trunk_prefix: String,
    /// B2; 0 = never.
    pub mobile_release_after_offline_days: u32,
    /// E2, milliseconds.
    pub seat_linger_ms: u32,
}

impl Default for SessionRules {
    fn default() -> Self {
        SessionRules {
            internal_calls: Billing::Count,
            service_calls: Billing::Free,
            guests: Billing::Count,
            connectors: Billing::Free,
            transfer_out: TransferOut::Free,
            transferred_outbound: TransferredOutbound::Free,
            never_deny: vec![Class::Lift],
            emergency_numbers: vec![Name::const_new("110"), Name::const_new("112")],
            trunk_prefix: String::new(),
            mobile_release_after_offline_days: 0,
            seat_linger_ms: 0,
        }
    }
}

impl SessionRules {
    fn read(&mut self, cx: &mut Cx<'_>, mut table: Table<'_, '_>) {
        table.word(cx, "internal_calls", &mut self.internal_calls);
        table.word(cx, "service_calls", &mut self.service_calls);
        table.word(cx, "guests", &mut self.guests);
        table.word(cx, "connectors", &mut self.connectors);
        table.word(cx, "transfer_out", &mut self.transfer_out);
        table.word(cx, "transferred_outbound", &mut self.transferred_outbound);
        table.words(cx, "never_deny", &mut self.never_deny);
        table.texts(cx, "emergency_numbers", &mut self.emergency_numbers, |text| {
            let help = "write 1 to 16 digits, as dialled without the trunk prefix";
            let plain = emergency::plain_number(text).filter(|plain| plain.len() <= 16);
            plain.map(Name::from).ok_or(("is not a number", help))
        });
        if let Some(item) = table.text(cx, "trunk_prefix", &mut self.trunk_prefix)
            && !self.trunk_prefix.is_empty()
        {
            match emergency::plain_prefix(&self.trunk_prefix) {
                Some(plain) => self.trunk_prefix = plain,
                None => {
                    let message = format!("`{}` is not a prefix: {}", item.key_path, quoted(&self.trunk_prefix));
                    let help = "write the digits that get an outside line, as in \"0\", or \"\" for none";
                    item.wrong(cx, message, help);
                }
            }
        }
        table.int(cx, "mobile_release_after_offline_days", 0..=3_650, &mut self.mobile_release_after_offline_days);
        table.int(cx, "seat_linger_ms", 0..=3_600_000, &mut self.seat_linger_ms);
        table.finish(cx);
    }
}

/// `[inclusive]`: what comes with each seat (rule book 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusiveRules {
    /// Phone numbers that come with each seat (L2).
    pub numbers_per_seat: u32,
    /// Trunk lines that come with each seat (L3).
    pub channels_per_seat: u32,
    /// L3: whether the limit denies.
    pub channels_enforce: bool,
    /// L4; 0 = not enforced.
    pub endpoints_per_seat: u32,
}

impl Default for InclusiveRules {
    fn default() -> Self {
        InclusiveRules { numbers_per_seat: 1, channels_per_seat: 5, channels_enforce: false, endpoints_per_seat: 0 }
    }
}

impl InclusiveRules {
    fn read(&mut self, cx: &mut Cx<'_>, mut table: Table<'_, '_>) {
        table.int(cx, "numbers_per_seat", 0..=1_000, &mut self.numbers_per_seat);
        table.int(cx, "channels_per_seat", 0..=1_000, &mut self.channels_per_seat);
        table.flag(cx, "channels_enforce", &mut self.channels_enforce);
        table.int(cx, "endpoints_per_seat", 0..=1_000, &mut self.endpoints_per_seat);
        table.finish(cx);
    }
}

/// `[deny]`: what a refusal says (U3, U4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyRules {
    /// The SIP status of a refused call (U3).
    pub sip_code: u16,
    /// U4, seconds.
    pub retry_after_s: u32,
}

impl Default for DenyRules {
    fn default() -> Self {
        DenyRules { sip_code: 403, retry_after_s: 60 }
    }
}

impl DenyRules {
    fn read(&mut self, cx: &mut Cx<'_>, mut table: Table<'_, '_>) {
        table.int(cx, "sip_code", 400..=699, &mut self.sip_code);
        table.int(cx, "retry_after_s", 1..=86_400, &mut self.retry_after_s);
        table.finish(cx);
    }
}

impl Rules {
    /// Reads the four sections of a document; what it does not set stays as it is.
    pub(crate) fn read(&mut self, cx: &mut Cx<'_>, document: &mut Table<'_, '_>) {
        let policy = document.table(cx, "policy");
        self.policy.read(cx, policy);
        let sessions = document.table(cx, "sessions");
        self.sessions.read(cx, sessions);
        let inclusive = document.table(cx, "inclusive");
        self.inclusive.read(cx, inclusive);
        let deny = document.table(cx, "deny");
        self.deny.read(cx, deny);
    }

    /// Every key with its value, as TOML writes it.
    pub fn entries(&self) -> Vec<Effective> {
        let source = Source::new(std::path::Path::new(""), String::new());
        let (mut problems, mut ledger) = (Problems::default(), Vec::new());
        let mut cx = Cx { source: &source, problems: &mut problems, ledger: Some(&mut ledger), tenant: false };
        self.clone().read(&mut cx, &mut Table::new(None, 0..0, String::new()));
        ledger
    }

    /// The terms that a subscription is subject to.
    pub fn terms(&self, zone: Tz, trial_days: u32) -> Terms {
        let (policy, inclusive) = (&self.policy, &self.inclusive);
        Terms {
            zone,
            trial_days,
            stale_after_days: policy.stale_after_days,
            downgrade: policy.downgrade,
            pending_conflict: policy.pending_conflict,
            cancel_immediate: policy.cancel_immediate,
            cancel_after_term: policy.cancel_after_term,
            revoke_full_by_customer: policy.revoke_full_by_customer,
            refund: policy.refund,
            billing: policy.billing,
            price_mode: policy.price_mode,
            execute_subscription: policy.execute_subscription,
            execute_addon: policy.execute_addon,
            execute_below_cents: u64::from(policy.execute_below_cents),
            inclusive: PerSeat {
                numbers: inclusive.numbers_per_seat,
                channels: inclusive.channels_per_seat,
                endpoints: inclusive.endpoints_per_seat,
            },
        }
    }

    /// The rules as the engine takes them.
    pub fn engine(&self) -> Policy {
        let (sessions, inclusive, deny) = (&self.sessions, &self.inclusive, &self.deny);
        Policy {
            internal_calls: sessions.internal_calls,
            service_calls: sessions.service_calls,
            guests: sessions.guests,
            connectors: sessions.connectors,
            transfer_out_until_end: sessions.transfer_out == TransferOut::ChargeUntilEnd,
            transferred_outbound_follows: sessions.transferred_outbound == TransferredOutbound::Follow,
            never_deny: sessions.never_deny.clone(),
            emergency_numbers: sessions.emergency_numbers.clone(),
            trunk_prefix: Name::from(sessions.trunk_prefix.as_str()),
            mobile_offline_ms: u64::from(sessions.mobile_release_after_offline_days) * 86_400_000,
            seat_linger_ms: u64::from(sessions.seat_linger_ms),
            channels_per_seat: inclusive.channels_per_seat,
            channels_extra: 0,
            channels_enforce: inclusive.channels_enforce,
            end_drain_ms: u64::from(self.policy.end_drain_s) * 1_000,
            sip_code: deny.sip_code,
            retry_after_s: deny.retry_after_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_engines() {
        assert_eq!(Rules::default().engine(), Policy::default());
        assert_eq!(Rules::default().terms(Tz::Europe__Berlin, 30), Terms::default());
    }

    #[test]
    fn every_key_has_an_entry() {
        let keys: Vec<String> = Rules::default().entries().into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys.len(), 16 + 11 + 4 + 2);
        assert!(keys.contains(&"deny.sip_code".to_owned()));
    }
}
