//! The narration on the terminal: a sentence for an event that is worth one, sums for the rest.

use std::collections::BTreeMap;

use usherd_client::{Answer, Source, Verdict};
use usherd_engine::{Code, Direction, Kind};

use super::office::{Scene, TENANT, Thing, called};
use super::terminal::Tone;

/// Counts of the events since the morning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Calls that came in, and how many of them passed.
    pub inbound: u32,
    pub inbound_passed: u32,
    /// Calls that were started, inside and out, and allowed.
    pub started: u32,
    /// Emergency calls, all allowed.
    pub emergencies: u32,
    /// The subjects that were refused, and how often.
    pub refused: BTreeMap<String, u32>,
    /// Questions that the daemon did not answer in time: allowed, and adopted afterwards (G7).
    pub unanswered: u32,
    /// Most seats held at once, and when, seconds after midnight.
    pub peak: u32,
    pub peak_at_s: u32,
}

impl Tally {
    /// Counts a question and its answer.
    pub(super) fn note(&mut self, thing: &Thing, verdict: &Verdict) {
        let is_call = thing.ask.kind == Kind::Call;
        match verdict.source {
            Source::Emergency => self.emergencies += 1,
            _ if is_call && thing.ask.direction == Some(Direction::Inbound) => {
                self.inbound += 1;
                self.inbound_passed += u32::from(verdict.allow);
            }
            _ => self.started += u32::from(is_call && verdict.allow),
        }
        self.unanswered += u32::from(matches!(verdict.source, Source::Unreachable(_)));
        if !verdict.allow {
            *self.refused.entry(subject(thing).to_owned()).or_default() += 1;
        }
    }

    /// `31 calls came in and all passed, 12 went out; nobody was refused`
    pub(super) fn sums(&self) -> String {
        let passed = match self.inbound - self.inbound_passed {
            0 => "all passed".to_owned(),
            lost => format!("{lost} did not pass"),
        };
        let refused = self.refusals().map_or("nobody was refused".to_owned(), |who| format!("refused {who}"));
        format!("{} in and {passed}, {} out; {refused}", calls(self.inbound), calls(self.started))
    }

    /// `6 times: the fax 2, Nils 4`; `None` where nobody was refused.
    pub(super) fn refusals(&self) -> Option<String> {
        let times = match self.refused.values().sum::<u32>() {
            0 => return None,
            1 => "once".to_owned(),
            all => format!("{all} times"),
        };
        let mut who: Vec<(&String, &u32)> = self.refused.iter().collect();
        who.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named: Vec<String> = who.iter().take(5).map(|(who, count)| format!("{} {count}", called(who))).collect();
        let others = if who.len() > 5 { ", others" } else { "" };
        Some(format!("{times}: {}{others}", named.join(", ")))
    }
}

/// `1 call`, `2 calls`
fn calls(count: u32) -> String {
    format!("{count} call{}", if count == 1 { "" } else { "s" })
}

/// The fields that ask the same by hand, where a reader may want to.
pub(super) fn by_hand(scene: Scene, verdict: &Verdict) -> Option<String> {
    match scene {
        Scene::Fax if !verdict.allow => {
            Some(format!("tenant={TENANT}&subject=fax&session=f1&kind=call&class=fax&direction=outbound&ttl_s=60"))
        }
        Scene::InboundWhileFull => Some(format!("tenant={TENANT}&session=c1&kind=call&direction=inbound&ttl_s=60")),
        _ => None,
    }
}

fn subject(thing: &Thing) -> &str {
    thing.ask.subject.as_deref().unwrap_or_default()
}

/// `Nils`, `The fax`: at the beginning of a sentence.
fn beginning(id: &str) -> String {
    let name = called(id);
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// `allow.new`, `deny.full tenant`: as the daemon says it on one line.
fn code(answer: Option<&Answer>) -> String {
    answer.map_or("allowed".to_owned(), |answer| format!("{} {}", answer.code, answer.detail).trim_end().to_owned())
}

/// `16 of 16 seats`
fn seats(answer: Option<&Answer>) -> String {
    match answer.map(|answer| (answer.held, answer.quota)) {
        Some((held, Some(quota))) => format!("{held} of {quota} seats"),
        Some((held, None)) => format!("{held} seats"),
        None => "no seat".to_owned(),
    }
}

/// The sentence for something that was asked, where it is worth one. `again`: it was refused before.
pub(super) fn told(thing: &Thing, verdict: &Verdict, tally: &Tally, again: bool) -> Option<(Tone, String)> {
    let answer = verdict.answer.as_ref();
    let who = beginning(subject(thing));
    if again && !verdict.allow {
        return None;
    }
    if again {
        let tried = if thing.ask.kind == Kind::Desktop { "opens the client again" } else { "tries again" };
        return Some((Tone::Good, format!("{who} {tried}: {}, {}.", code(answer), seats(answer))));
    }
    let (code, seats) = (code(answer), seats(answer));
    let tone = if verdict.allow { Tone::Plain } else { Tone::Bad };
    Some((tone, sentence(thing, verdict, tally, &who, &code, &seats)?))
}

fn sentence(thing: &Thing, verdict: &Verdict, tally: &Tally, who: &str, code: &str, seats: &str) -> Option<String> {
    let answer = verdict.answer.as_ref();
    let is = |wanted| answer.is_some_and(|answer| answer.code == wanted);
    let sip = verdict.sip_code().unwrap_or(403);
    let text = match thing.scene {
        Scene::Routine => return None,
        Scene::FirstSeat => format!(
            "{who}'s mobile is paired: {code}, the first of the seats. A pairing keeps its seat, whether the phone is on or off."
        ),
        Scene::ThreeSessions => format!(
            "{who} has a paired mobile, an open client, and calls a customer: {code}. Three sessions, one person, one seat."
        ),
        Scene::DoorBell if is(Code::AllowOver) => {
            format!("The door bell rings: {code}, {seats}. This office has \"door\" in never_deny.")
        }
        Scene::DoorBell => format!(
            "The door bell rings: {code} for the door, until somebody has answered. The phone that rings needs no seat."
        ),
        Scene::DeskLogIn => format!("{who} logs in at the hot desk: {code}. A log-in takes no seat."),
        Scene::DeskCall if verdict.allow => {
            format!(
                "{who} calls from the hot desk: {code}. The seat is {who}'s, not the desk's, and free again afterwards."
            )
        }
        Scene::DeskCall => format!("{who} calls from the hot desk and is refused: {code}."),
        Scene::LastSeat if is(Code::AllowNew) && is_full(answer) => format!(
            "{who} dials out and takes the last seat: {code}, {seats}. Full. Who has a seat does not notice; nobody else gets one now."
        ),
        Scene::LastSeat => format!("{who} dials out: {code}, {seats}."),
        Scene::Fax if verdict.allow => format!("The fax sends a page: {code}, {seats}."),
        Scene::Fax => format!(
            "The fax is refused: {code}, SIP {sip}. It keeps its page and tries again in {} minutes.",
            verdict.retry_after_s().unwrap_or(600) / 60
        ),
        Scene::InboundWhileFull => format!(
            "A customer calls {}, who has no seat: it passes, as did the {} before. Nobody needs a seat to be called.",
            who,
            tally.inbound.saturating_sub(1)
        ),
        Scene::Latecomer if verdict.allow => format!("{who} opens the client: {code}, {seats}."),
        Scene::Latecomer => {
            format!("{who} opens the client and is refused: {code}. The phone on that desk still rings.")
        }
        Scene::Emergency => format!("{who} dials 112: it passes without a seat, as it would if no daemon were there."),
        Scene::LiftTest if is(Code::AllowOver) => {
            format!(
                "The lift makes its test call: {code}, {seats}. A lift is never refused, and nobody loses a seat for it."
            )
        }
        Scene::LiftTest => format!("The lift makes its test call: {code}, {seats}."),
        Scene::CordlessCall if verdict.allow => format!("{who} calls from a cordless phone: {code}, {seats}."),
        Scene::CordlessCall => format!("{who} calls from a cordless phone and is refused: {code}."),
    };
    Some(text)
}

fn is_full(answer: Option<&Answer>) -> bool {
    answer.is_some_and(|answer| answer.quota == Some(answer.held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::office::{Act, script};
    use usherd_engine::Detail;

    fn verdict(code: Code, held: u32) -> Verdict {
        let detail = if code.denies() { Detail::Tenant } else { Detail::None };
        let sip_code = code.denies().then_some(403);
        Verdict {
            allow: code.allows(),
            source: Source::Daemon,
            answer: Some(Answer {
                code,
                detail,
                first: None,
                message: String::new(),
                held,
                quota: Some(16),
                over: held.saturating_sub(16),
                ttl_s: None,
                sip_code,
                retry_after_s: sip_code.map(|_| 600),
                decision_id: String::new(),
            }),
            faults: Vec::new(),
            problem: None,
        }
    }

    fn things() -> Vec<Thing> {
        let begin = |act| if let Act::Begin(thing) = act { Some(*thing) } else { None };
        script(1, 0).into_iter().filter_map(|happening| begin(happening.act)).collect()
    }

    #[test]
    fn whatever_the_answer_there_is_a_whole_sentence() {
        for thing in things() {
            for (code, held) in [(Code::AllowNew, 16), (Code::AllowOver, 17), (Code::DenyFull, 16), (Code::AllowNew, 3)]
            {
                for again in [false, true] {
                    let Some((tone, text)) = told(&thing, &verdict(code, held), &Tally::default(), again) else {
                        continue;
                    };
                    assert!(
                        text.ends_with('.')
                            && text.contains("of 16") | text.contains(code.as_str()) | text.contains("passes"),
                        "{text}"
                    );
                    assert!(text.chars().next().unwrap().is_uppercase() && !text.contains("  "), "{text}");
                    assert_eq!(tone == Tone::Bad, code.denies(), "{text}");
                }
            }
        }
    }

    #[test]
    fn routine_has_no_sentence_and_is_summed_up() {
        let mut tally = Tally::default();
        for thing in things().into_iter().filter(|thing| thing.scene == Scene::Routine) {
            let verdict = verdict(if subject(&thing) == "archive" { Code::DenyFull } else { Code::AllowHeld }, 16);
            tally.note(&thing, &verdict);
            assert_eq!(told(&thing, &verdict, &tally, false), None);
        }
        assert!(tally.inbound > 50 && tally.inbound == tally.inbound_passed, "{tally:?}");
        assert!(tally.sums().ends_with("refused 3 times: the archive 3"), "{}", tally.sums());
        assert!(tally.sums().contains("all passed"), "{}", tally.sums());
    }

    #[test]
    fn the_fax_is_told_when_it_may_try_again_u4() {
        let fax = things().into_iter().find(|thing| thing.scene == Scene::Fax).unwrap();
        let told = told(&fax, &verdict(Code::DenyFull, 16), &Tally::default(), false).unwrap().1;
        assert!(told.contains("deny.full tenant, SIP 403") && told.contains("10 minutes"), "{told}");
    }
}
