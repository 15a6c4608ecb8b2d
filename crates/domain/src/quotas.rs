//! Quotas: how much of something an organization and each of its workspaces may have or use, and how much they do. Knows
//! what is counted, over which time, and when somebody is warned; refuses to know where it is counted.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Utc};

use crate::{
    access::policy::words,
    codes,
    refusal::{Detail, FieldFault, Refusal},
};

codes! {
    /// Why a quota was not set.
    SetQuotaCode { NotFound }
}
codes! {
    /// Why no credits were spent.
    SpendCreditsCode { QuotaExceeded, WorkspaceArchived }
}
codes! {
    /// Why what is in use was not changed.
    AdjustUsageCode { QuotaExceeded, WorkspaceArchived }
}

words! {
    /// What is counted.
    Metric {
        /// People who are members, and invitations that wait for an answer: each has a seat.
        Members = "MEMBERS",
        /// Workspaces, archived ones too. Of organizations only.
        Workspaces = "WORKSPACES",
        /// Items, as the services that keep them tell.
        Items = "ITEMS",
        /// Bytes in store, as the services that keep them tell.
        StorageBytes = "STORAGE_BYTES",
        /// Operations that keys and service accounts ask for, each UTC day.
        ApiCalls = "API_CALLS",
        /// What costly operations cost, each month of UTC.
        Credits = "CREDITS",
    }
}

/// The time over which something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaWindow {
    /// None: it is as much as there is.
    None,
    /// A day of UTC.
    Day,
    /// A month of UTC.
    Month,
}

/// The most that a limit or an amount can be: the largest whole number that every JSON reader keeps, 2⁵³ − 1.
pub const MOST: i64 = (1 << 53) - 1;
/// The longest time that is charted at once, in days.
pub const LONGEST_CHART: i64 = 366;

impl Metric {
    /// The time over which it is counted.
    pub const fn window(self) -> QuotaWindow {
        match self {
            Self::Members | Self::Workspaces | Self::Items | Self::StorageBytes => QuotaWindow::None,
            Self::ApiCalls => QuotaWindow::Day,
            Self::Credits => QuotaWindow::Month,
        }
    }

    /// Whether a workspace has a quota of it.
    pub const fn is_of_workspaces(self) -> bool {
        !matches!(self, Self::Workspaces)
    }

    /// What people call it, after a number.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Members => "members and pending invitations",
            Self::Workspaces => "workspaces",
            Self::Items => "items",
            Self::StorageBytes => "bytes of storage",
            Self::ApiCalls => "API calls a day",
            Self::Credits => "credits a month",
        }
    }

    /// The first day of the period in which that moment is; the same for all where nothing starts anew.
    pub fn period(self, now: DateTime<Utc>) -> NaiveDate {
        let today = now.date_naive();
        match self.window() {
            QuotaWindow::None => NaiveDate::default(),
            QuotaWindow::Day => today,
            QuotaWindow::Month => today.with_day(1).unwrap_or(today),
        }
    }

    /// When the count starts anew.
    pub fn resets_at(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let start = self.period(now);
        let next = match self.window() {
            QuotaWindow::None => None,
            QuotaWindow::Day => start.checked_add_days(Days::new(1)),
            QuotaWindow::Month => start.checked_add_months(Months::new(1)),
        }?;
        Some(next.and_time(NaiveTime::MIN).and_utc())
    }
}

words! {
    /// Whose quota it is.
    QuotaScope {
        /// The workspace's own.
        Workspace = "WORKSPACE",
        /// The organization's, which all its workspaces share.
        Organization = "ORGANIZATION",
    }
}

/// A quota that leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Of what.
    pub metric: Metric,
    /// Whose.
    pub scope: QuotaScope,
    /// How much there may be.
    pub limit: i64,
    /// How much there is, without what was asked for.
    pub used: i64,
    /// When the count starts anew.
    pub resets_at: Option<DateTime<Utc>>,
}

impl Exceeded {
    /// What to tell.
    pub fn message(&self) -> String {
        let Self { metric, limit, used, .. } = self;
        let whose = match self.scope {
            QuotaScope::Workspace => "The workspace",
            QuotaScope::Organization => "The organization",
        };
        let instead = match self.resets_at {
            Some(at) => {
                format!("The count starts anew at {}.", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            }
            None => "Give something up, or ask an admin of the organization for more.".to_owned(),
        };
        format!("{whose} may have {limit} {}, and has {used}. {instead}", metric.title())
    }

    /// The refusal of an operation.
    pub fn refusal<C>(self, code: C) -> Refusal<C> {
        Refusal::new(code, self.message()).with(Detail::Quota(self))
    }
}

/// Whether so much is so near to the limit that somebody is to be warned: 90 % of it.
pub fn is_near(used: i64, limit: i64) -> bool {
    limit > 0 && i128::from(used) * 10 >= i128::from(limit) * 9
}

/// Judges one more use.
pub fn judge(
    metric: Metric,
    scope: QuotaScope,
    limit: Option<i64>,
    used: i64,
    amount: i64,
    now: DateTime<Utc>,
) -> Result<(), Exceeded> {
    match limit {
        // What gives back is never refused, however much there is.
        Some(limit) if amount > 0 && used.saturating_add(amount) > limit => {
            Err(Exceeded { metric, scope, limit, used, resets_at: metric.resets_at(now) })
        }
        _ => Ok(()),
    }
}

/// How many calls a process takes at once out of what is left, to spend them without asking again: an eighth, so that several
/// processes come to the limit together, and one by one at the end.
pub fn block(left: i64) -> i64 {
    const LARGEST: i64 = 500;
    (left / 8).clamp(1, LARGEST).min(left)
}

/// The days of a chart: from the first to the last, both with it, and none that is still to come.
pub fn chart(from: NaiveDate, to: NaiveDate, today: NaiveDate) -> Result<Vec<NaiveDate>, FieldFault> {
    if to < from {
        return Err(FieldFault("is before `from`".to_owned()));
    }
    if (to - from).num_days() >= LONGEST_CHART {
        return Err(FieldFault(format!(
            "is more than {LONGEST_CHART} days after `from`: ask for less at once"
        )));
    }
    Ok(from.iter_days().take_while(|day| *day <= to.min(today)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_and_a_month_are_those_of_utc() {
        let late = at("2028-02-29T23:59:59.999Z");
        assert_eq!(Metric::ApiCalls.period(late).to_string(), "2028-02-29");
        assert_eq!(Metric::ApiCalls.resets_at(late), Some(at("2028-03-01T00:00:00Z")));
        assert_eq!(Metric::Credits.period(late).to_string(), "2028-02-01");
        assert_eq!(Metric::Credits.resets_at(at("2028-12-31T00:00:00Z")), Some(at("2029-01-01T00:00:00Z")));
        assert_eq!(Metric::Items.resets_at(late), None);
        assert_eq!(Metric::Items.period(late), Metric::Items.period(at("1999-01-01T00:00:00Z")));
    }

    #[test]
    fn the_limit_itself_can_be_reached_and_not_passed() {
        let now = at("2026-11-21T12:00:00Z");
        let judge = |limit, used, amount| {
            judge(Metric::Credits, QuotaScope::Workspace, limit, used, amount, now).is_ok()
        };
        assert!(judge(Some(10), 9, 1) && !judge(Some(10), 10, 1) && !judge(Some(10), 0, 11));
        assert!(judge(None, i64::MAX, i64::MAX));
        assert!(!judge(Some(MOST), MOST, i64::MAX), "sums do not wrap");
        assert!(judge(Some(5), 9, -1), "above a limit that was lowered, things can be given back");
        assert!(!judge(Some(0), 0, 1));
    }

    #[test]
    fn ninety_per_cent_is_near() {
        assert!(is_near(9, 10) && !is_near(8, 10) && is_near(10, 10) && is_near(2, 2) && !is_near(1, 2));
        assert!(!is_near(0, 0), "who may have nothing is not near to it");
        assert!(is_near(MOST, MOST) && !is_near(MOST / 2, MOST));
    }

    #[test]
    fn blocks_add_up_to_what_was_left() {
        for mut left in [1, 7, 8, 200, 4_001, 1_000_000] {
            let mut taken = 0;
            let whole = left;
            while left > 0 {
                let block = block(left);
                assert!((1..=500).contains(&block) && block <= left);
                assert!(left > 8 || block == 1, "one by one at the end");
                left -= block;
                taken += block;
            }
            assert_eq!(taken, whole);
        }
        assert_eq!(block(0), 0);
    }

    #[test]
    fn charts_end_today_and_are_not_endless() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let days = chart(day("2028-02-27"), day("2028-03-05"), day("2028-03-01")).unwrap();
        assert_eq!(days.len(), 4);
        assert!(chart(day("2028-02-27"), day("2028-02-26"), day("2028-03-01")).is_err());
        assert_eq!(chart(day("2028-01-01"), day("2028-12-31"), day("2030-01-01")).unwrap().len(), 366);
        assert!(chart(day("2028-01-01"), day("2029-01-01"), day("2030-01-01")).is_err());
        assert_eq!(chart(day("2031-01-01"), day("2031-01-02"), day("2030-01-01")).unwrap(), []);
    }
}
