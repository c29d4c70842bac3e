//! The rules for requests of customer and operator, and for what follows (rule book 4, 5, 7, 10).

use chrono_tz::Tz;
use usherd_contract::vocabulary;

/// Everything besides the record that decides what it entitles to, and what may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The billing zone (H2).
    pub zone: Tz,
    /// The length of a trial, civil days (J3).
    pub trial_days: u32,
    /// Days without a confirmation after which a synced record is stale; 0 = never (J7).
    pub stale_after_days: u32,
    /// The rule for reductions: when they are possible, and how they take effect (J10).
    pub downgrade: Downgrade,
    /// The fate of a booked change when another one is asked for (J11).
    pub pending_conflict: PendingConflict,
    /// True if a cancellation may take effect at once (J12).
    pub cancel_immediate: bool,
    /// The instant at which a cancellation takes effect once the minimum term is over (J12).
    pub cancel_after_term: CancelAfterTerm,
    /// True if a customer may revoke the cancellation of a whole subscription (N7).
    pub revoke_full_by_customer: bool,
    /// The refund for a cancelled rest (N11).
    pub refund: Refund,
    /// The billing period (X2, N4).
    pub billing: BillingPeriod,
    /// The way tiers make a price (K2).
    pub price_mode: PriceMode,
    /// True if a customer's cancellation of the subscription is executed without an operator (N2).
    pub execute_subscription: bool,
    /// True if a customer's cancellation of an add-on is executed without an operator (N2).
    pub execute_addon: bool,
    /// Cents a month; cancellations worth less are executed even where an operator decides (N2).
    pub execute_below_cents: u64,
    /// The extras of each seat (L2-L4).
    pub inclusive: PerSeat,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            zone: Tz::Europe__Berlin,
            trial_days: 30,
            stale_after_days: 30,
            downgrade: Downgrade::Scheduled,
            pending_conflict: PendingConflict::Keep,
            cancel_immediate: false,
            cancel_after_term: CancelAfterTerm::MonthEnd,
            revoke_full_by_customer: false,
            refund: Refund::None,
            billing: BillingPeriod::Month,
            price_mode: PriceMode::Volume,
            execute_subscription: true,
            execute_addon: true,
            execute_below_cents: 0,
            inclusive: PerSeat::default(),
        }
    }
}

/// The extras of each seat (L1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerSeat {
    /// Numbers (L2).
    pub numbers: u32,
    /// Channels (L3).
    pub channels: u32,
    /// Endpoints (L4); 0 = not enforced.
    pub endpoints: u32,
}

impl Default for PerSeat {
    fn default() -> Self {
        PerSeat { numbers: 1, channels: 5, endpoints: 0 }
    }
}

vocabulary! {
    /// The rule for reductions: when they are possible, and how they take effect (J10).
    Downgrade {
        /// Any time, in force at the end of the term or of the month.
        Scheduled = "scheduled",
        /// Not within the term; afterwards by a new subscription.
        AfterTermRecreate = "after_term_recreate",
        /// Any time, by a new subscription at once.
        RecreateNow = "recreate_now",
    }
}

vocabulary! {
    /// The fate of a booked change when another one is asked for (J11).
    PendingConflict {
        /// Later additions are allowed, the booked target stays.
        Keep = "keep",
        /// The last one wins.
        Replace = "replace",
        /// Any other change is refused until the booked one is revoked.
        Reject = "reject",
    }
}

vocabulary! {
    /// The time at which a cancellation after the term takes effect (J12).
    CancelAfterTerm {
        /// At the start of the next civil month.
        MonthEnd = "month_end",
        /// At the end of the running term.
        TermEnd = "term_end",
        /// At the end of the billing period.
        PeriodEnd = "period_end",
    }
}

vocabulary! {
    /// The refund for a cancelled rest (N11).
    Refund {
        /// Nothing is paid back.
        None = "none",
        /// By days.
        Days = "days",
        /// By hours.
        Hours = "hours",
    }
}

vocabulary! {
    /// The billing period (X2).
    BillingPeriod {
        /// The civil month.
        Month = "month",
        /// The year; the calculator knows months only.
        Year = "year",
    }
}

vocabulary! {
    /// The action after an end, besides inbound-only mode (J6).
    AfterEnd {
        /// Inbound and emergency calls go on.
        InboundOnly = "inbound_only",
        /// The same, and the platform is told to switch off.
        Off = "off",
    }
}

vocabulary! {
    /// The way tiers make a price (K2).
    PriceMode {
        /// All seats at the price of the tier reached.
        Volume = "volume",
        /// Every seat at the price of its own tier.
        Graduated = "graduated",
    }
}
