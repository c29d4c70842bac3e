//! The report as one file of HTML: a curve, a heat map and tables, without a script and with nothing from elsewhere.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::figures::{Hour, Report, in_all};
use crate::cli::money::euros;
use crate::cli::whatif::{hours, recommendation};

const STYLE: &str = include_str!("page.css");
/// The drawing of the curve, in its own units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 34.0;
const BOTTOM: f64 = 22.0;
/// Points of the curve at most; beyond it hours are put together.
const POINTS_MAX: usize = 480;
/// Days of the heat map, the latest ones.
const HEAT_DAYS_MAX: usize = 62;

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let name = report.tenant.name.as_deref().unwrap_or(&report.tenant.figures.tenant);
    let (from, to) = (shown(report, report.from), shown(report, report.to));
    let zone = report.zone.name();
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Seats of {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Seats of {name}</h1>\n<p>{from} to {to}, {zone}</p>\n",
        name = escaped(name),
    );
    facts(report, &mut out);
    if report.hours.is_empty() {
        out.push_str("<p>Nothing was seen in this time.</p>\n");
    } else {
        curve(report, &mut out);
        heat(report, &mut out);
    }
    quotas(report, &mut out);
    days(report, &mut out);
    out.push_str("</body>\n</html>\n");
    out
}

fn facts(report: &Report, out: &mut String) {
    out.push_str("<table>\n<caption>In all</caption>\n");
    for (what, value) in report.facts() {
        let _ = writeln!(out, "<tr><th scope=\"row\">{what}</th><td class=\"word\">{}</td></tr>", escaped(&value));
    }
    out.push_str("</table>\n");
}

/// Hours put together, so that a long time is as wide as a short one.
fn points(report: &Report) -> Vec<Vec<&Hour>> {
    let each = report.hours.len().div_ceil(POINTS_MAX).max(1);
    report.hours.chunks(each).map(|hours| hours.iter().collect()).collect()
}

/// Most held as an area, the mean as a line, the quota as a broken line, what was wanted beyond as bars.
fn curve(report: &Report, out: &mut String) {
    let points = points(report);
    let quota_max = report.hours.iter().filter_map(|hour| hour.quota).max().unwrap_or(0);
    // An enormous quota would press the curve flat: then it is named, not drawn.
    let is_drawn = quota_max <= report.total.demand.max(4).saturating_mul(4);
    let top = f64::from(report.total.demand.max(if is_drawn { quota_max } else { 0 }).max(1)) * 1.08;
    let x = |at: usize| LEFT + (WIDTH - LEFT) * at as f64 / points.len() as f64;
    let y = |seats: f64| (HEIGHT - BOTTOM) * (1.0 - seats / top);
    let _ = writeln!(
        out,
        "<h2>Use over time</h2>\n<p>Area: most seats held. Line: seats held on average. Broken line: the quota. Bars above: wanted, but not to be had.</p>\n\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Seats held over time, at most {} of {quota_max}\">",
        report.total.peak,
    );
    let (mut area, mut mean, mut limit, mut bars) =
        (format!("M{LEFT:.1} {:.1}", y(0.0)), String::new(), String::new(), String::new());
    for (at, hours) in points.iter().enumerate() {
        let total = in_all(hours.iter().copied());
        let (left, right, peak) = (x(at), x(at + 1), y(f64::from(total.peak)));
        let _ = write!(area, "L{left:.1} {peak:.1}L{right:.1} {peak:.1}");
        let _ = write!(mean, "{}{:.1} {:.1}", if at == 0 { "M" } else { "L" }, (left + right) / 2.0, y(total.mean));
        if let Some(quota) = hours.last().and_then(|hour| hour.quota).filter(|_| is_drawn) {
            let _ = write!(
                limit,
                "{}{left:.1} {y:.1}L{right:.1} {y:.1}",
                if limit.is_empty() { "M" } else { "L" },
                y = y(f64::from(quota))
            );
        }
        if total.demand > total.peak {
            let high = y(f64::from(total.demand));
            let _ = writeln!(
                bars,
                "<rect class=\"want\" x=\"{left:.1}\" y=\"{high:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                (right - left).max(1.0),
                peak - high
            );
        }
    }
    let _ = write!(area, "L{:.1} {:.1}Z", x(points.len()), y(0.0));
    axes(report, &points, top, out, x, y);
    let _ = writeln!(
        out,
        "<path class=\"peak\" d=\"{area}\"/>\n{bars}<path class=\"mean\" d=\"{mean}\"/>\n<path class=\"limit\" d=\"{limit}\"/>\n</svg>"
    );
}

fn axes(
    report: &Report,
    points: &[Vec<&Hour>],
    top: f64,
    out: &mut String,
    x: impl Fn(usize) -> f64,
    y: impl Fn(f64) -> f64,
) {
    for step in 0..=4 {
        let seats = (top * f64::from(step) / 4.0).floor();
        let at = y(seats);
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"0\" y=\"{:.1}\">{seats}</text>",
            at + 4.0
        );
    }
    let each = points.len().div_ceil(8).max(1);
    for (at, hours) in points.iter().enumerate().step_by(each) {
        let Some(hour) = hours.first() else { continue };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x(at),
            HEIGHT - 6.0,
            report.local(hour.at).format("%d %b %H:%M")
        );
    }
}

/// A row per day, a column per hour; darker is fuller, framed where there was no free seat.
fn heat(report: &Report, out: &mut String) {
    let all = report.days();
    let days = &all[all.len().saturating_sub(HEAT_DAYS_MAX)..];
    let most = f64::from(report.total.peak.max(1));
    let height = days.len() * 16 + 20;
    let _ = writeln!(
        out,
        "<h2>Hour by hour</h2>\n<p>The stronger the colour, the more seats were held at once. Framed: no seat was free for a while. Pale grey: not looked at.</p>\n\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Heat map: a row per day, a column per hour\">"
    );
    for hour in (0..24).step_by(3) {
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"11\">{hour:02}:00</text>", column(hour));
    }
    for (row, (date, hours_of_day)) in days.iter().enumerate() {
        let top = row * 16 + 18;
        let _ = writeln!(out, "<text x=\"0\" y=\"{}\">{}</text>", top + 11, date.format("%a %d %b"));
        let mut cells = [None; 24];
        hours_of_day.iter().for_each(|hour| cells[report.hour_of_day(hour) % 24] = Some(&hour.total));
        for (hour, cell) in cells.iter().enumerate() {
            let (left, width) = (column(hour), column(1) - column(0) - 2.0);
            let _ = match cell {
                None => writeln!(
                    out,
                    "<rect class=\"empty\" x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"14\"/>"
                ),
                Some(total) => writeln!(
                    out,
                    "<rect class=\"cell{}\" x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"14\" fill-opacity=\"{:.2}\"><title>{} {hour:02}:00: at most {}, {:.1} on average, {} denials</title></rect>",
                    if total.saturated_s > 0 { " full" } else { "" },
                    f64::from(total.peak) / most,
                    date.format("%d %b"),
                    total.peak,
                    total.mean,
                    total.denials,
                ),
            };
        }
    }
    out.push_str("</svg>\n");
}

fn column(hour: usize) -> f64 {
    80.0 + (WIDTH - 80.0) * hour as f64 / 24.0
}

fn quotas(report: &Report, out: &mut String) {
    let answer = &report.whatif;
    if answer.requests == 0 {
        return;
    }
    let _ = writeln!(out, "<h2>With another number of seats</h2>\n<p>{}.</p>", escaped(&recommendation(answer)));
    out.push_str("<table>\n<caption>What each would have denied</caption>\n<tr><th scope=\"col\">seats</th><th scope=\"col\">denied</th><th scope=\"col\">share</th><th scope=\"col\">too few for</th><th scope=\"col\">a month</th></tr>\n");
    for row in &answer.whatif {
        let is_marked = Some(row.quota) == answer.quota || row.quota == answer.recommended;
        let _ = writeln!(
            out,
            "<tr{}><td>{}</td><td>{}</td><td>{:.2} %</td><td>{}</td><td>{}</td></tr>",
            if is_marked { " class=\"marked\"" } else { "" },
            row.quota,
            row.denials,
            row.share * 100.0,
            hours(row.saturated_s),
            euros(row.monthly_cents),
        );
    }
    out.push_str("</table>\n");
}

fn days(report: &Report, out: &mut String) {
    out.push_str("<h2>Day by day</h2>\n<div class=\"scroll\"><table>\n<tr><th scope=\"col\">day</th><th scope=\"col\">peak</th><th scope=\"col\">mean</th><th scope=\"col\">wanted</th><th scope=\"col\">no seat free</th><th scope=\"col\">denials</th><th scope=\"col\">true</th></tr>\n");
    for (date, hours_of_day) in report.days() {
        let total = in_all(hours_of_day.iter().copied());
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{:.2}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            date.format("%Y-%m-%d %a"),
            total.peak,
            total.mean,
            total.demand,
            hours(total.saturated_s),
            total.denials,
            total.denials_true,
        );
    }
    out.push_str("</table></div>\n");
}

fn shown(report: &Report, at: DateTime<Utc>) -> String {
    report.local(at).format("%d %B %Y %H:%M").to_string()
}

/// A text as HTML shows it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
