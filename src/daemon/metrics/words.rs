//! The closed vocabularies of label values that are not the engine's own.

use usherd_contract::vocabulary;

vocabulary! {
    /// How much of its quota a tenant uses.
    Band {
        /// No seat held.
        Idle = "idle",
        /// Less than half, or any number of an unlimited quota.
        Below50 = "below_50",
        /// From half on.
        From50 = "50_to_80",
        /// From 80 % on.
        From80 = "80_to_90",
        /// From 90 % on.
        From90 = "90_to_100",
        /// Exactly all.
        Full = "full",
        /// More than all.
        Over = "over",
    }
}

impl Band {
    /// The band of so many seats held under a quota; `None` is unlimited.
    pub fn of(held: u32, quota: Option<u32>) -> Self {
        let Some(quota) = quota else { return if held == 0 { Band::Idle } else { Band::Below50 } };
        if held == 0 {
            return Band::Idle;
        }
        match held.cmp(&quota) {
            std::cmp::Ordering::Greater => Band::Over,
            std::cmp::Ordering::Equal => Band::Full,
            std::cmp::Ordering::Less => match u64::from(held) * 100 / u64::from(quota) {
                0..50 => Band::Below50,
                50..80 => Band::From50,
                80..90 => Band::From80,
                _ => Band::From90,
            },
        }
    }
}

vocabulary! {
    /// The trigger of a load of the configuration.
    ReloadTrigger {
        /// The start of the daemon.
        Start = "start",
        /// SIGHUP.
        Signal = "signal",
        /// `POST /v1/admin/reload`.
        Http = "http",
        /// A file changed.
        Watch = "watch",
        /// A synced record came.
        Sync = "sync",
        /// A booked change took effect.
        Schedule = "schedule",
    }
}

vocabulary! {
    /// The result of it.
    ReloadResult {
        /// It is in force.
        Applied = "applied",
        /// Nothing was different.
        Unchanged = "unchanged",
        /// It had errors; the last good one stays in force.
        Rejected = "rejected",
    }
}

vocabulary! {
    /// How a try to pull records went.
    SyncResult {
        /// New records are in force.
        Applied = "applied",
        /// The publisher was heard and has nothing new.
        Unchanged = "unchanged",
        /// The publisher's answer is not taken.
        Refused = "refused",
        /// It was not reached, or what it published could not be stored.
        Failed = "failed",
    }
}

vocabulary! {
    /// The result of a message of a webhook, or of one try of it.
    WebhookResult {
        /// The receiver took it.
        Delivered = "delivered",
        /// It is tried again.
        Retried = "retried",
        /// It was tried for as long as it may be.
        Failed = "failed",
        /// It was not tried any more: too many waited.
        Dropped = "dropped",
        /// The receiver wants nothing any more.
        Gone = "gone",
    }
}

vocabulary! {
    /// The kind of a booked change.
    ChangeKind {
        /// More seats.
        Increase = "increase",
        /// Fewer seats.
        Reduction = "reduction",
        /// None from then on.
        Cancellation = "cancellation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_meet_without_gap_or_overlap() {
        for (held, quota, band) in [
            (0, Some(0), Band::Idle),
            (0, Some(10), Band::Idle),
            (0, None, Band::Idle),
            (7, None, Band::Below50),
            (49, Some(100), Band::Below50),
            (50, Some(100), Band::From50),
            (79, Some(100), Band::From50),
            (80, Some(100), Band::From80),
            (89, Some(100), Band::From80),
            (90, Some(100), Band::From90),
            (999, Some(1000), Band::From90),
            (100, Some(100), Band::Full),
            (101, Some(100), Band::Over),
            (1, Some(0), Band::Over),
            (u32::MAX - 1, Some(u32::MAX), Band::From90),
        ] {
            assert_eq!(Band::of(held, quota), band, "{held} of {quota:?}");
        }
    }
}
