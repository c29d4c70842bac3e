//! One value of a document: its type, its range, and the complaint where it has not what is required.

use std::ops::{Range, RangeInclusive};

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;
use toml::de::DeValue;
use usherd_contract::file::{Source, nearest};
use usherd_contract::word::Vocabulary;
use usherd_engine::session::{Name, check_tenant};
use usherd_subscription::civil::{self, Edge};

use super::origin::{Effective, Origin};
use super::problem::{Problem, Problems};
use super::words::{ProblemCode, one_of};

/// Longest text that a key may hold, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// The context that is shared while one file is read.
pub(crate) struct Cx<'a> {
    pub(crate) source: &'a Source,
    pub(crate) problems: &'a mut Problems,
    /// Every value in force, where somebody wants to know.
    pub(crate) ledger: Option<&'a mut Vec<Effective>>,
    /// True if this file speaks for one tenant: its origins are then the tenant's, and defaults are not noted.
    pub(crate) tenant: bool,
}

impl Cx<'_> {
    pub(crate) fn fault(&mut self, span: &Range<usize>, key_path: &str, message: impl Into<String>) -> Problem {
        Problem::at(self.source, span, key_path, message)
    }

    pub(super) fn origin(&self, at: usize) -> Origin {
        let (file, line) = (self.source.name().to_owned(), self.source.place(at).line);
        if self.tenant { Origin::Tenant { file, line } } else { Origin::File { file, line } }
    }

    pub(super) fn note(&mut self, key: String, value: impl FnOnce() -> String, at: Option<usize>, otherwise: Origin) {
        if self.ledger.is_none() || (self.tenant && at.is_none()) {
            return;
        }
        let origin = at.map_or(otherwise, |at| self.origin(at));
        if let Some(ledger) = self.ledger.as_deref_mut() {
            ledger.push(Effective { key, value: value(), origin });
        }
    }
}

/// A value that is present, with everything needed to complain about it.
#[derive(Clone)]
pub(crate) struct Item<'t, 'i> {
    pub(crate) key_path: String,
    pub(crate) span: Range<usize>,
    pub(crate) value: &'t DeValue<'i>,
}

impl Item<'_, '_> {
    pub(super) fn wrong_type(&self, cx: &mut Cx<'_>, wanted: &str) {
        let problem = cx
            .fault(
                &self.span,
                &self.key_path,
                format!("`{}` must be {wanted}, not {}", self.key_path, a_type(self.value)),
            )
            .code(ProblemCode::WrongType)
            .label(format!("expected {wanted}"));
        let problem = match self.value {
            DeValue::String(text) if wanted.contains("number") && text.trim().parse::<i64>().is_ok() => {
                problem.help(format!("leave out the quotes: {}", text.trim()))
            }
            DeValue::String(text) if wanted.starts_with("true") && matches!(text.as_ref(), "true" | "false") => {
                problem.help(format!("leave out the quotes: {text}"))
            }
            DeValue::String(text) if wanted.starts_with("a list") => {
                problem.help(format!("put it into brackets: [{}]", quoted(text)))
            }
            _ => problem,
        };
        cx.problems.push(problem);
    }

    /// A complaint about the value.
    pub(crate) fn wrong(&self, cx: &mut Cx<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.wrong_as(cx, ProblemCode::Invalid, message, help);
    }

    /// A complaint about the value that machines can tell from others.
    pub(crate) fn wrong_as(
        &self,
        cx: &mut Cx<'_>,
        code: ProblemCode,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let problem = cx.fault(&self.span, &self.key_path, message).code(code).help(help);
        cx.problems.push(problem);
    }

    pub(crate) fn text(&self, cx: &mut Cx<'_>) -> Option<String> {
        let DeValue::String(text) = self.value else {
            self.wrong_type(cx, "a text in quotes");
            return None;
        };
        if text.len() > TEXT_BYTES_MAX {
            self.wrong_as(
                cx,
                ProblemCode::TooLarge,
                format!("`{}` is {} bytes long", self.key_path, text.len()),
                format!("at most {TEXT_BYTES_MAX} bytes are allowed"),
            );
            return None;
        }
        if text.contains(char::is_control) {
            self.wrong(
                cx,
                format!("`{}` contains a control character", self.key_path),
                "leave out line breaks, tabs and the like",
            );
            return None;
        }
        Some(text.clone().into_owned())
    }

    pub(super) fn flag(&self, cx: &mut Cx<'_>) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong_type(cx, "true or false");
        }
        flag
    }

    pub(super) fn int(&self, cx: &mut Cx<'_>, range: &RangeInclusive<u64>) -> Option<u64> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = self.value else {
            self.wrong_type(cx, &allowed);
            return None;
        };
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
        if let Some(value) = parsed.and_then(|value| u64::try_from(value).ok())
            && range.contains(&value)
        {
            return Some(value);
        }
        let what = match parsed {
            Some(..0) => "must not be negative".to_owned(),
            Some(value) if value < i128::from(*range.start()) => format!("must be at least {}", range.start()),
            _ => format!("must be at most {}", range.end()),
        };
        let shown: String = number.as_str().chars().take(40).collect();
        let above = parsed.is_none_or(|value| value > 0);
        // Only keys that count seats end so, and no tenant may have more.
        let seats = above && self.key_path.ends_with("seats");
        let code = if seats { ProblemCode::TooManySeats } else { ProblemCode::OutOfRange };
        self.wrong_as(cx, code, format!("`{}` {what}, it is {shown}", self.key_path), format!("write {allowed}"));
        None
    }

    pub(super) fn word<W: Vocabulary>(&self, cx: &mut Cx<'_>) -> Option<W> {
        let DeValue::String(text) = self.value else {
            self.wrong_type(cx, &format!("one of the words {}", one_of(W::ALL.iter().map(|w| w.as_str()))));
            return None;
        };
        let found = W::ALL.iter().copied().find(|word| word.as_str() == text.as_ref());
        if found.is_none() {
            let words = || W::ALL.iter().map(|word| word.as_str());
            let lower = text.to_lowercase();
            let guess = nearest(&lower, words()).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let shown: String = text.chars().take(40).collect();
            self.wrong_as(
                cx,
                ProblemCode::UnknownWord,
                format!("`{}` does not know {}", self.key_path, quoted(&shown)),
                format!("{guess}allowed: {}", one_of(words())),
            );
        }
        found
    }

    /// An instant: RFC 3339, or a civil date or time of the billing zone.
    pub(super) fn instant(&self, cx: &mut Cx<'_>, zone: Tz, edge: Edge) -> Option<DateTime<Utc>> {
        let text = self.date_text(cx)?;
        let at = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1))
            .map(|at| at.to_utc())
            .ok()
            .or_else(|| parse_civil(&text).map(|civil| civil::instant(zone, civil, edge)));
        self.in_era(cx, &text, at, "write an instant as \"2027-06-15T22:00:00Z\", or a civil date as \"2027-06-16\"")
    }

    /// A civil date, or date and time.
    pub(super) fn civil(&self, cx: &mut Cx<'_>) -> Option<NaiveDateTime> {
        let text = self.date_text(cx)?;
        let civil = parse_civil(&text);
        let help = if civil.is_none() && DateTime::parse_from_rfc3339(&text).is_ok() {
            "it is a civil time of the billing zone: leave out the offset, as in \"2026-06-16T10:00:00\""
        } else {
            "write a civil date as \"2026-06-16\", or date and time as \"2026-06-16T10:00:00\""
        };
        self.in_era(cx, &text, civil.map(|civil| civil.and_utc()), help).map(|at| at.naive_utc())
    }

    pub(super) fn date_text(&self, cx: &mut Cx<'_>) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.trim().to_owned()),
            DeValue::Datetime(datetime) => Some(datetime.to_string()),
            _ => {
                self.wrong_type(cx, "a date or an instant");
                None
            }
        }
    }

    pub(super) fn in_era(
        &self,
        cx: &mut Cx<'_>,
        text: &str,
        at: Option<DateTime<Utc>>,
        help: &str,
    ) -> Option<DateTime<Utc>> {
        if let Some(at) = at
            && civil::ERA.contains(&at.timestamp())
        {
            return Some(at);
        }
        let (code, what) = if at.is_some() {
            (ProblemCode::OutOfEra, "lies outside the years 1970 to 2999")
        } else if looks_like_date(text) {
            (ProblemCode::NoSuchDate, "names a date or time that does not exist")
        } else {
            (ProblemCode::NotADate, "is not a date")
        };
        let shown: String = text.chars().take(40).collect();
        self.wrong_as(cx, code, format!("`{}` {what}: {}", self.key_path, quoted(&shown)), help);
        None
    }
}

/// A text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// An instant as the configuration writes it.
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn parse_civil(text: &str) -> Option<NaiveDateTime> {
    let time_from_t = text.replacen(' ', "T", 1);
    ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&time_from_t, format).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

fn looks_like_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 10 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && bytes[7] == b'-'
}

/// A tenant that somebody is for: it need not be configured.
pub(super) fn any_tenant(text: &str) -> Result<Name, (&'static str, &'static str)> {
    let mut faults = Vec::new();
    check_tenant(text, &mut faults);
    if faults.is_empty() {
        Ok(Name::from(text))
    } else {
        Err(("is not a tenant id", "an id is 1 to 64 of a-z 0-9 . _ -"))
    }
}
