//! The office of the demonstration: its 30 people, and the script of a working day, as data from a seed.

use usherd_engine::{Class, Device, Direction, Kind, Name};

use usherd_client::Ask;

/// The tenant; that of the shipped samples and of the README.
pub(super) const TENANT: &str = "office-lindenhof";
/// The day that is told when nobody names one.
pub(super) const SEED: u64 = 16;
/// When a day begins and ends, seconds after midnight.
pub(super) const OPENS_S: u32 = at(7, 45);
pub(super) const CLOSES_S: u32 = at(18, 0);
/// Between these nothing happens by chance, so that the morning tells its story whatever the seed.
const STORY: std::ops::Range<u32> = at(10, 6)..at(12, 0);

/// Seconds after midnight.
pub(super) const fn at(hour: u32, minute: u32) -> u32 {
    hour * 3_600 + minute * 60
}

/// The four kinds of employees that seats are planned for (P1); they decide nothing (A6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Managers and field staff with a paired mobile: 1.0 seats.
    One,
    /// Office staff: 0.8.
    Two,
    /// Part-time staff: 0.4.
    Three,
    /// Function extensions, and people without a PC: 0.1.
    Four,
}

/// Somebody, or something, that may hold a seat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    /// The subject.
    pub id: &'static str,
    /// Its name on the terminal.
    pub called: &'static str,
    pub planned_as: Type,
}

const fn person(id: &'static str, called: &'static str, planned_as: Type) -> Person {
    Person { id, called, planned_as }
}

/// Everybody.
pub(super) const PEOPLE: [Person; 30] = [
    person("clara", "Clara", Type::One),
    person("jonas", "Jonas", Type::One),
    person("leyla", "Leyla", Type::One),
    person("martin", "Martin", Type::One),
    person("sofia", "Sofia", Type::One),
    person("anna", "Anna", Type::Two),
    person("ben", "Ben", Type::Two),
    person("carla", "Carla", Type::Two),
    person("david", "David", Type::Two),
    person("eva", "Eva", Type::Two),
    person("felix", "Felix", Type::Two),
    person("greta", "Greta", Type::Two),
    person("hannah", "Hannah", Type::Two),
    person("ivan", "Ivan", Type::Two),
    person("judith", "Judith", Type::Two),
    person("karim", "Karim", Type::Three),
    person("lena", "Lena", Type::Three),
    person("mona", "Mona", Type::Three),
    person("nils", "Nils", Type::Three),
    person("olga", "Olga", Type::Three),
    person("fax", "the fax", Type::Four),
    person("lift", "the lift", Type::Four),
    person("door", "the door", Type::Four),
    person("meeting-room", "the meeting room", Type::Four),
    person("model-shop", "the model shop", Type::Four),
    person("archive", "the archive", Type::Four),
    person("hot-desk", "the hot desk", Type::Four),
    person("caretaker", "the caretaker", Type::Four),
    person("kitchen", "the kitchen", Type::Four),
    person("plotter-room", "the plotter room", Type::Four),
];

/// The name of a subject on the terminal.
pub(super) fn called(id: &str) -> &str {
    PEOPLE.iter().find(|person| person.id == id).map_or(id, |person| person.called)
}

/// The PBX nodes of the office.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    /// The phone system.
    Pbx,
    /// The gateway of the cordless phones, which loses its power once a day.
    Dect,
}

impl Node {
    /// Its name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Node::Pbx => "pbx-lindenhof",
            Node::Dect => "dect-gateway",
        }
    }
}

/// When something that was allowed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// So many seconds after it began.
    After(u32),
    /// At this time of the day, whenever it began.
    At(u32),
    /// Not today.
    Never,
}

/// Why the terminal has a sentence of its own for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scene {
    /// It has none.
    Routine,
    FirstSeat,
    ThreeSessions,
    DoorBell,
    DeskLogIn,
    DeskCall,
    LastSeat,
    Fax,
    InboundWhileFull,
    Latecomer,
    Emergency,
    LiftTest,
    CordlessCall,
}

/// Something that begins, if it is allowed.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub ask: Ask,
    pub node: Node,
    pub ends: Ends,
    pub scene: Scene,
    /// True if it tries again later when it was refused: clients and the fax do, callers do not.
    pub insists: bool,
}

/// The action.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Begin(Box<Thing>),
    /// The gateway of the cordless phones loses its power.
    PowerCut,
    /// It has it back.
    PowerBack,
    /// How the quota is raised, if it was not yet.
    Advice,
    Lunch,
}

/// Something that happens at a time of the day.
#[derive(Clone, Debug)]
pub(super) struct Happening {
    /// Seconds after midnight.
    pub at_s: u32,
    pub act: Act,
}

/// The script of a day, in order of time; the same seed and day give the same.
pub(super) fn script(seed: u64, day: u32) -> Vec<Happening> {
    let mut plan = Plan { day, dice: Dice(seed ^ u64::from(day) << 32), count: 0, all: Vec::new() };
    if day == 0 {
        plan.pairings();
    }
    plan.clients();
    plan.morning();
    plan.half_past_ten();
    plan.rest_of_the_day();
    plan.chance();
    plan.all.sort_by_key(|happening| happening.at_s);
    plan.all
}

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: std::ops::Range<u32>) -> u32 {
        range.start + (self.next() % u64::from(range.end - range.start)) as u32
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[(self.next() % all.len() as u64) as usize]
    }
}

/// Office clients: who, and from when to when besides lunch. Eight of ten are open at half past ten, all after lunch.
const CLIENTS: [(&str, u32, u32); 13] = [
    ("anna", at(8, 2), at(17, 5)),
    ("ben", at(8, 9), at(16, 50)),
    ("carla", at(8, 17), at(17, 10)),
    ("david", at(8, 26), at(17, 30)),
    ("eva", at(8, 38), at(17, 20)),
    ("felix", at(8, 49), at(17, 35)),
    ("greta", at(9, 1), at(11, 6)),
    ("greta", at(13, 40), at(17, 40)),
    ("hannah", at(9, 11), at(17, 45)),
    ("karim", at(9, 26), at(11, 4)),
    ("judith", at(13, 24), at(17, 50)),
    ("ivan", at(13, 31), at(17, 25)),
    ("olga", at(13, 46), at(17, 15)),
];

struct Plan {
    day: u32,
    dice: Dice,
    count: u32,
    all: Vec<Happening>,
}

impl Plan {
    fn add(&mut self, at_s: u32, act: Act) {
        self.all.push(Happening { at_s, act });
    }

    fn session(&mut self, node: Node, what: &str) -> Name {
        self.count += 1;
        Name::from(format!("{}/{}/{what}-{}", node.name(), self.day + 1, self.count))
    }

    /// Something of a kind that begins; a call unless said otherwise.
    fn begin(&mut self, at_s: u32, scene: Scene, ends: Ends, ask: impl FnOnce(Name) -> Ask) {
        self.begin_on(Node::Pbx, at_s, scene, ends, ask);
    }

    fn begin_on(&mut self, node: Node, at_s: u32, scene: Scene, ends: Ends, ask: impl FnOnce(Name) -> Ask) {
        let mut ask = ask(Name::const_new(""));
        ask.session = Some(self.session(node, ask.kind.as_str()));
        let insists = ask.kind == Kind::Desktop || scene == Scene::Fax;
        self.add(at_s, Act::Begin(Box::new(Thing { ask, node, ends, scene, insists })));
    }

    fn client(&mut self, who: &'static str, from_s: u32, until_s: u32) {
        let scene = if who == "nils" { Scene::Latecomer } else { Scene::Routine };
        self.begin(from_s, scene, Ends::At(until_s), |id| Ask {
            device: Some(Device::Desktop),
            ..Ask::new(TENANT, who, id, Kind::Desktop)
        });
    }

    fn call(&mut self, at_s: u32, scene: Scene, who: &'static str, direction: Direction, lasts_s: u32) {
        let device = if self.dice.within(0..3) == 0 { Device::Desk } else { Device::Desktop };
        let to = (direction == Direction::Outbound).then(|| self.number());
        self.begin(at_s, scene, Ends::After(lasts_s), |id| Ask {
            device: Some(device),
            to,
            ..Ask::call(TENANT, who, id, direction)
        });
    }

    /// A call by a function extension, or by somebody without a PC.
    fn extension(&mut self, at_s: u32, scene: Scene, who: &'static str, lasts_s: u32) {
        let (class, direction, device) = match who {
            "fax" => (Class::Fax, Direction::Outbound, Device::Function),
            "lift" => (Class::Lift, Direction::Outbound, Device::Function),
            "door" => (Class::Door, Direction::Internal, Device::Function),
            "meeting-room" => (Class::Conference, Direction::Outbound, Device::Function),
            "caretaker" | "kitchen" | "model-shop" => (Class::Other, Direction::Outbound, Device::Dect),
            _ => (Class::Other, Direction::Outbound, Device::Desk),
        };
        let node = if device == Device::Dect { Node::Dect } else { Node::Pbx };
        let to = (direction == Direction::Outbound).then(|| self.number());
        self.begin_on(node, at_s, scene, Ends::After(lasts_s), |id| Ask {
            class: Some(class),
            device: Some(device),
            to,
            ..Ask::call(TENANT, who, id, direction)
        });
    }

    /// A number that nobody has: 030 23125 is kept free for films.
    fn number(&mut self) -> Name {
        Name::from(format!("03023125{:03}", self.dice.within(0..1_000)))
    }

    /// The mobiles of managers and field staff are paired once, and stay so (B2).
    fn pairings(&mut self) {
        for (number, who) in PEOPLE.iter().filter(|person| person.planned_as == Type::One).enumerate() {
            let scene = if number == 0 { Scene::FirstSeat } else { Scene::Routine };
            self.begin(OPENS_S + 60 + 20 * number as u32, scene, Ends::Never, |id| Ask {
                device: Some(Device::Mobile),
                ..Ask::new(TENANT, who.id, id, Kind::Mobile)
            });
        }
    }

    fn clients(&mut self) {
        for (number, (who, from_s, until_s)) in CLIENTS.into_iter().enumerate() {
            let lunch_s = at(11, 55) + 150 * number as u32;
            let from_s = from_s + self.dice.within(0..240);
            if from_s > lunch_s || until_s < lunch_s {
                self.client(who, from_s, until_s);
            } else {
                // Clients are closed at lunch, and their seats are free (B1).
                self.client(who, from_s, lunch_s);
                self.client(who, lunch_s + 40 * 60, until_s);
            }
        }
    }

    fn morning(&mut self) {
        self.begin(at(8, 5), Scene::Routine, Ends::At(at(17, 0)), |id| Ask::new(TENANT, "clara", id, Kind::Desktop));
        self.call(at(8, 12), Scene::ThreeSessions, "clara", Direction::Outbound, 420);
        self.door_bell(at(8, 33));
        self.desk("lena", at(9, 17), at(9, 36));
        self.desk("olga", at(9, 39), at(9, 58));
        // Two part-timers: one comes at ten, and one when it is too late.
        self.client("mona", at(10, 2), at(13, 0));
    }

    /// The door calls inside, which counts; who is called needs nothing (C1, C4).
    fn door_bell(&mut self, at_s: u32) {
        self.extension(at_s, Scene::DoorBell, "door", 40);
        self.call(at_s, Scene::Routine, "hannah", Direction::Inbound, 40);
    }

    /// Somebody logs in at the hot desk, calls, and leaves it to the next (A3, B4).
    fn desk(&mut self, who: &'static str, from_s: u32, until_s: u32) {
        self.begin(from_s, Scene::DeskLogIn, Ends::At(until_s), |id| Ask {
            device: Some(Device::Desk),
            ..Ask::new(TENANT, who, id, Kind::Phone)
        });
        let to = Some(self.number());
        self.begin(from_s + 240, Scene::DeskCall, Ends::After(300), |id| Ask {
            device: Some(Device::Desk),
            to,
            ..Ask::call(TENANT, who, id, Direction::Outbound)
        });
    }

    /// Fifteen seats are held; the sixteenth goes, and it gets interesting.
    fn half_past_ten(&mut self) {
        self.extension(at(10, 24), Scene::LastSeat, "meeting-room", 28 * 60);
        self.call(at(10, 27), Scene::Routine, "anna", Direction::Outbound, 34 * 60);
        self.extension(at(10, 30), Scene::Fax, "fax", 180);
        self.call(at(10, 31) + 30, Scene::InboundWhileFull, "nils", Direction::Inbound, 240);
        self.call(at(10, 32), Scene::Routine, "clara", Direction::Outbound, 36 * 60);
        self.client("nils", at(10, 33), at(15, 0));
        let help = Ask { to: Some(Name::const_new("112")), ..Ask::call(TENANT, "kitchen", "", Direction::Outbound) };
        self.begin_on(Node::Dect, at(10, 34) + 30, Scene::Emergency, Ends::After(120), |_| help);
        self.extension(at(10, 36), Scene::LiftTest, "lift", 75);
        self.add(at(10, 37), Act::Advice);
        self.door_bell(at(10, 46));
    }

    fn rest_of_the_day(&mut self) {
        self.extension(at(11, 16), Scene::CordlessCall, "caretaker", 1_500);
        self.add(at(11, 19), Act::PowerCut);
        self.add(at(11, 50), Act::PowerBack);
        self.add(at(12, 20), Act::Lunch);
        self.extension(at(13, 20), Scene::Routine, "door", 40);
        self.extension(at(14, 20), Scene::Fax, "fax", 180);
        self.extension(at(15, 0), Scene::Routine, "meeting-room", 40 * 60);
        self.extension(at(16, 5), Scene::Fax, "fax", 240);
    }

    /// Draws what is different every day: who calls when.
    fn chance(&mut self) {
        let mut at_s = at(8, 0);
        while at_s < CLOSES_S - 600 {
            let who = self.dice.within(0..20) as usize;
            let lasts_s = self.dice.within(40..400);
            self.call(at_s, Scene::Routine, PEOPLE[who].id, Direction::Inbound, lasts_s);
            at_s += self.dice.within(90..600);
        }
        for (who, from_s, until_s) in CLIENTS {
            let mut at_s = from_s + self.dice.within(300..2_400);
            while at_s + 600 < until_s {
                // At lunch nobody sits at a desk.
                if !(at(11, 50)..at(13, 20)).contains(&at_s) {
                    let direction = self.dice.one_of(&[Direction::Outbound, Direction::Outbound, Direction::Internal]);
                    let lasts_s = self.dice.within(60..500);
                    self.call(at_s, Scene::Routine, who, direction, lasts_s);
                }
                at_s += self.dice.within(1_500..4_800);
            }
        }
        for who in ["model-shop", "archive", "caretaker", "kitchen", "plotter-room"] {
            for range in [at(8, 15)..STORY.start - 300, at(13, 30)..at(15, 30), at(15, 30)..at(17, 30)] {
                let (at_s, lasts_s) = (self.dice.within(range), self.dice.within(60..240));
                self.extension(at_s, Scene::Routine, who, lasts_s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The sessions that count, if all are granted: subject, from, until. No rules but "a call in counts for nobody".
    fn claims(day: &[Happening]) -> Vec<(String, u32, u32)> {
        let things = day.iter().filter_map(|happening| match &happening.act {
            Act::Begin(thing) => Some((happening.at_s, thing)),
            _ => None,
        });
        let counting = things.filter(|(_, thing)| {
            !thing.ask.is_inbound() && thing.ask.kind != Kind::Phone && thing.scene != Scene::Emergency
        });
        let claims = counting.map(|(at_s, thing)| {
            let until_s = match thing.ends {
                Ends::After(lasts_s) => at_s + lasts_s,
                Ends::At(until_s) => until_s,
                Ends::Never => u32::MAX,
            };
            (thing.ask.subject.clone().unwrap().to_string(), at_s, until_s)
        });
        claims.collect()
    }

    fn demand(claims: &[(String, u32, u32)], at_s: u32) -> usize {
        let live = claims.iter().filter(|(_, from_s, until_s)| (*from_s..*until_s).contains(&at_s));
        live.map(|(who, ..)| who).collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn there_are_thirty_of_the_mix_that_needs_sixteen_seats_p2() {
        let of = |planned_as| PEOPLE.iter().filter(|person| person.planned_as == planned_as).count() as u32;
        let mix = [Type::One, Type::Two, Type::Three, Type::Four].map(of);
        assert_eq!(mix, [5, 10, 5, 10]);
        let tenths: u32 = mix.iter().zip([10, 8, 4, 1]).map(|(people, tenths)| people * tenths).sum();
        assert_eq!(tenths.div_ceil(10), 16);
        assert_eq!(PEOPLE.iter().map(|person| person.id).collect::<BTreeSet<_>>().len(), 30);
    }

    #[test]
    fn a_seed_is_a_day_and_another_day_is_another() {
        let told = |seed, day| format!("{:?}", script(seed, day));
        assert_eq!(told(7, 1), told(7, 1));
        assert_ne!(told(7, 1), told(8, 1));
        assert_ne!(told(7, 1), told(7, 2));
    }

    #[test]
    fn any_seed_fills_the_office_at_half_past_ten_and_one_more() {
        for seed in 0..200 {
            let claims = claims(&script(seed, 0));
            for minute in at(10, 10) / 60..at(10, 24) / 60 {
                assert_eq!(demand(&claims, minute * 60), 15, "seed {seed}, minute {minute}");
            }
            assert_eq!(demand(&claims, at(10, 29)), 16, "seed {seed}: full");
            assert_eq!(demand(&claims, at(10, 31)), 17, "seed {seed}: the fax is too many");
            let most = (at(10, 24)..at(11, 0)).map(|at_s| demand(&claims, at_s)).max().unwrap();
            assert!(most <= 20, "seed {seed}: 20 seats are enough, not {most}");
            let before = (OPENS_S..at(10, 24)).map(|at_s| demand(&claims, at_s)).max().unwrap();
            assert!(before <= 19, "seed {seed}: {before} before");
        }
    }

    #[test]
    fn the_shipped_seed_refuses_nobody_before_it_is_full() {
        let claims = claims(&script(SEED, 0));
        let before = (OPENS_S..at(10, 24)).map(|at_s| demand(&claims, at_s)).max().unwrap();
        assert!(before <= 16, "{before}");
        let all_day = (OPENS_S..CLOSES_S).map(|at_s| demand(&claims, at_s)).max().unwrap();
        assert!((18..=21).contains(&all_day), "the day has a peak above 16: {all_day}");
        assert_eq!(demand(&claims, CLOSES_S - 1), 5, "only the pairings stay overnight");
    }

    #[test]
    fn everything_that_is_promised_happens() {
        let day = script(SEED, 0);
        let scenes: BTreeSet<Scene> = day
            .iter()
            .filter_map(|happening| match &happening.act {
                Act::Begin(thing) => Some(thing.scene),
                _ => None,
            })
            .collect();
        assert_eq!(scenes.len(), 13, "{scenes:?}");
        let has = |wanted: fn(&Act) -> bool| day.iter().any(|happening| wanted(&happening.act));
        assert!(has(|act| matches!(act, Act::PowerCut)) && has(|act| matches!(act, Act::PowerBack)));
        assert!(has(|act| matches!(act, Act::Advice)) && has(|act| matches!(act, Act::Lunch)));
    }

    #[test]
    fn every_question_is_well_formed_and_named_once() {
        let mut seen = BTreeSet::new();
        for day in 0..3 {
            for happening in script(3, day) {
                let Act::Begin(thing) = happening.act else { continue };
                assert_eq!(thing.ask.check(), Ok(()), "{thing:?}");
                assert!(PEOPLE.iter().any(|person| Some(person.id) == thing.ask.subject.as_deref()), "{thing:?}");
                assert!((OPENS_S..CLOSES_S).contains(&happening.at_s), "{thing:?}");
                assert!(seen.insert(thing.ask.session.clone()), "{thing:?}");
            }
        }
    }
}
