//! The scenarios of the rule book that the engine alone decides (9.1, 9.2, 9.6).

use usherd_testkit::rules::script::Row;

/// Every scenario of 9.1 and 9.6, and T175-T177.
pub(crate) const BOOK: &[&str] = &[
    "T001", "T002", "T004", "T005", "T007", "T008", "T010", "T011", "T013", "T014", "T016", "T017", "T019", "T020",
    "T022", "T023", "T025", "T026", "T028", "T029", "T031", "T032", "T034", "T035", "T037", "T038", "T040", "T041",
    "T043", "T044", "T046", "T047", "T049", "T050", "T052", "T053", "T055", "T056", "T058", "T059", "T061", "T062",
    "T064", "T065", "T067", "T068", "T070", "T071", "T073", "T074", "T076", "T077", "T079", "T080", "T082", "T083",
    "T164", "T166", "T167", "T169", "T170", "T172", "T173", "T175", "T176", "T177",
];

const fn row(id: &'static str, rules: &'static str, script: &'static str) -> Row {
    Row { id, rules, script }
}

/// The rows; Q=2 and no session at the start of each.
pub(crate) const ROWS: &[Row] = &[
    row("T001", "B1 D1", "desktop d1 anna -> allow.new 1 q=2"),
    row("T002", "E1 E2", "
        quota 1
        desktop d1 anna -> allow.new 1
        release d1      -> released.last 0
        desktop d2 bob  -> allow.new 1"),
    row("T004", "A2 D2 E1", "
        quota 1
        desktop d1 anna  -> allow.new 1
        desktop d1b anna -> allow.held 1
        release d1       -> released.more plain 1
        release d1b      -> released.last 0"),
    row("T005", "B2", "
        quota 1
        mobile m1 anna -> allow.new 1 ttl=none
        after 8640000s
        see            -> held=1 sessions=1
        see m1         -> live counts"),
    row("T007", "A2 D2", "
        quota 1
        mobile m1 anna  -> allow.new 1
        desktop d1 anna -> allow.held 1
        release m1      -> released.more 1
        see             -> held=1"),
    row("T008", "D3 B2 U2", "
        quota 1
        desktop x x    -> allow.new
        mobile m1 anna -> deny.full tenant 1 q=1
        see m1         -> gone
        see            -> held=1 sessions=1"),
    row("T010", "A2 E1", "
        quota 1
        mobile m1 anna -> allow.new
        mobile m2 anna -> allow.held 1
        release m1     -> released.more 1
        release m2     -> released.last 0"),
    row("T011", "B1 B2", "
        desktop d1 anna -> allow.new 1
        mobile m1 bob   -> allow.new 2
        after 3600s
        see             -> held=2"),
    row("T013", "B6", "
        desktop d1 anna -> allow.new 1
        guest g1 guest1 -> allow.new 2
        guest g2 guest2 -> deny.full tenant 2
        release g1      -> released.last 1"),
    row("T014", "B6", "
        quota 1
        policy guests=free
        desktop x x     -> allow.new
        guest g1 guest1 -> allow.free guest 1"),
    row("T016", "C1 V3", "
        quota 0
        in c1 - -> allow.free inbound 0 q=0"),
    row("T017", "C2 C3", "
        quota 1
        out c1 bob -> allow.new 1
        release c1 -> released.last 0"),
    row("T019", "C4", "
        quota 1
        desktop x x         -> allow.new
        int c1 bob to=123   -> deny.full tenant 1"),
    row("T020", "C4", "
        quota 1
        policy internal_calls=free
        desktop x x         -> allow.new
        int c1 bob to=123   -> allow.free internal 1"),
    row("T022", "D2 E1", "
        quota 1
        out c1 bob     -> allow.new 1
        desktop d1 bob -> allow.held 1
        release c1     -> released.more 1
        release d1     -> released.last 0"),
    row("T023", "C1 D3 G2", "
        quota 1
        desktop x x    -> allow.new 1
        in c1 bob      -> allow.free inbound 1
        desktop d1 bob -> deny.full 1
        see c1         -> live free
        release x      -> released.last 0
        desktop d1 bob -> allow.new 1
        see c1         -> live free"),
    row("T025", "C5 C7", "
        quota 1
        desktop x x            -> allow.new 1
        in c1 bob              -> allow.free inbound
        out c2 bob leg=deliver -> allow.free inbound 1"),
    row("T026", "C7", "
        quota 1
        in c1 bob              -> allow.free inbound 0
        out c2 bob             -> allow.new 1
        release c2 transferred -> released.last plain 0"),
    row("T028", "C9", "
        quota 1
        out c1 bob              -> allow.new 1
        release c1              -> released.last 0
        int c2 cara leg=deliver -> allow.free inbound 0"),
    row("T029", "C9", "
        quota 1
        out c1 bob -> allow.new 1
        after 600s
        see        -> held=1
        release c1 -> released.last 0"),
    row("T031", "C9", "
        quota 1
        desktop x x                   -> allow.new
        int c1 bob to=*8 leg=deliver  -> allow.free inbound 1"),
    row("T032", "C1 C11", "
        quota 1
        desktop x x    -> allow.new
        times 20 in ring# agent# -> allow.free inbound 1
        in ring7 agent7 -> allow.free inbound 1
        see            -> held=1 in=20 out=0"),
    row("T034", "C12", "
        quota 1
        desktop x x                    -> allow.new
        int c1 bob to=*100 leg=service -> allow.free service 1
        int c2 bob to=*44 leg=service  -> allow.free service 1
        int c3 bob to=*80 leg=service  -> allow.free service 1"),
    row("T035", "C13", "
        quota 1
        desktop x x         -> allow.new
        int c1 - leg=system -> allow.free system 1"),
    row("T037", "C14 V3", "
        standing ended
        out c1 bob to=112         -> allow.free emergency 0
        out c1 bob to=112 t=other -> allow.free emergency 0 q=0
        out - bob emergency t=other -> allow.free emergency
        see c1                    -> gone"),
    row("T038", "C15 D2", "
        quota 1
        desktop d1 anna -> allow.new
        out c1 anna     -> allow.held 1
        release d1      -> released.more 1
        release c1      -> released.last 0"),
    row("T040", "C16", "
        quota 1
        desktop x x -> allow.new
        int c1 bob  -> deny.full 1"),
    row("T041", "A3", "
        desktop d1 anna -> allow.new 1
        out c1 anna     -> allow.held 1"),
    row("T043", "A3 G4", "
        out c1 anna -> allow.new 1
        out c2 bob  -> allow.new 2
        out c1 bob  -> deny.conflict 2
        see c1      -> live subject=anna"),
    row("T044", "C17", "
        quota 1
        mobile m1 anna -> allow.new
        out c1 anna    -> allow.held 1"),
    row("T046", "D3 U4", "
        quota 1
        desktop x x              -> allow.new
        out f1 fax class=fax     -> deny.full 1 retry=60 sip=403
        after 300s
        release x                -> released.last
        out f2 fax class=fax     -> allow.new 1"),
    row("T047", "A4", "
        quota 1
        desktop d1 anna       -> allow.new
        out f1 anna class=fax -> allow.held 1"),
    row("T049", "C4 C18", "
        quota 1
        int b1 door class=door to=200 -> allow.new 1
        release b1                    -> released.last
        desktop x x                   -> allow.new
        int b2 door class=door to=200 -> deny.full 1"),
    row("T050", "C18 F3", "
        quota 1
        policy never_deny=lift,door
        desktop x x                   -> allow.new
        int b1 door class=door to=200 -> allow.over 2 q=1
        see                           -> held=2 over=1"),
    row("T052", "C18 J6", "
        standing ended
        out l1 lift class=lift -> allow.free lifeline 0
        see l1                 -> live free"),
    row("T053", "A4 C2 C1", "
        out c1 room101 class=room -> allow.new 1
        out c2 room102 class=room -> allow.new 2
        out c3 room103 class=room -> deny.full 2
        in c4 room103 class=room  -> allow.free inbound 2"),
    row("T055", "F1 F2 D2", "
        quota 20
        times 20 desktop d# u#  -> allow.new
        quota 15
        see                     -> held=20 over=5 sessions=20
        out c1 u1               -> allow.held 20
        desktop dn new          -> deny.full tenant 20 q=15
        release c1              -> released.more 20
        times 5 release d#      -> released.last
        desktop dn new          -> deny.full tenant 15
        release d6              -> released.last 14
        desktop dn new          -> allow.new 15"),
    row("T056", "F4", "
        quota 5
        times 5 desktop d# u# -> allow.new
        desktop dn new        -> deny.full 5
        quota 6
        desktop dn new        -> allow.new 6 q=6"),
    row("T058", "F3 G7", "
        desktop d1 anna     -> allow.new
        desktop d2 cara     -> allow.new 2
        out c1 bob existing -> allow.over 3
        see                 -> held=3 over=1
        release c1          -> released.last 2"),
    row("T059", "F6", "
        quota 3
        reserve desk=2
        desktop d1 a             -> allow.new 1
        desktop d2 b             -> deny.full reservation 1
        desktop d3 r1 group=desk -> allow.new 2
        desktop d4 r2 group=desk -> allow.new 3
        desktop d5 r3 group=desk -> deny.full tenant 3"),
    row("T061", "A5", "
        quota 1
        tenant u 1
        desktop d1 anna     -> allow.new 1
        desktop d1 anna t=u -> allow.new 1"),
    row("T062", "A2 G3", "
        quota 1
        hello n1 1
        hello n2 1
        desktop d1 anna @n1:1:1 -> allow.new 1
        out c1 anna @n2:1:1     -> allow.held 1
        release d1 @n1:1:2      -> released.more 1
        release c1 @n2:1:2      -> released.last 0"),
    row("T064", "G1", "
        hello n1 1
        out c1 anna @n1:1:5 -> allow.new
        release c1 @n1:1:6  -> released.last 0
        release c1 @n1:1:6  -> released.none 0"),
    row("T065", "G5", "
        hello n1 1
        release c1 @n1:1:6  -> released.none 0
        out c1 anna @n1:1:5 -> ignore.stale 0
        see                 -> held=0 sessions=0"),
    row("T067", "G5", "
        hello n1 1
        out c1 anna @n1:1:9 -> allow.new
        release c1 @n1:1:6  -> ignore.stale 1
        see c1              -> live"),
    row("T068", "G2", "
        quota 1
        desktop x x         -> allow.new
        times 3 out c1 bob  -> deny.full 1
        release x           -> released.last
        out c1 bob          -> allow.new 1"),
    row("T070", "G6", "
        quota 1
        hello n1 1
        hello n2 1
        desktop d1 anna @n1:1:1 -> allow.new
        after 10s
        heartbeat n2 1          -> ok
        after 5s
        see d1                  -> orphan
        desktop d1 anna @n2:1:1 -> allow.same first=allow.new 1
        see d1                  -> live node=n2
        after 14s
        heartbeat n2 1          -> ok
        after 14s
        heartbeat n2 1          -> ok
        after 14s
        see                     -> held=1"),
    row("T071", "G6 A2", "
        quota 1
        hello n1 1
        hello n2 1
        desktop d1 anna @n1:1:1 -> allow.new
        after 10s
        desktop d2 anna @n2:1:1 -> allow.held 1
        after 5s
        see d1                  -> orphan
        times 2 heartbeat n2 1  -> ok
        after 14s
        heartbeat n2 1          -> ok
        after 14s
        heartbeat n2 1          -> ok
        see                     -> held=1 sessions=2
        after 2s
        see d1                  -> gone
        see d2                  -> live
        see                     -> held=1 sessions=1"),
    row("T073", "G8", "
        hello n1 1
        out c1 anna @n1:1:1    -> allow.new 1
        desktop d1 bob @n1:1:2 -> allow.new 2
        after 3s
        hello n1 2             -> ok dropped=1 orphaned=1
        see                    -> held=1 sessions=1
        see d1                 -> orphan
        desktop dx x           -> allow.new 2
        desktop dy y           -> deny.full 2
        after 5s
        desktop d1 bob @n1:2:1 -> allow.same 2
        see d1                 -> live"),
    row("T074", "G8 G6", "
        hello n1 1
        out c1 anna @n1:1:1    -> allow.new 1
        desktop d1 bob @n1:1:2 -> allow.new 2
        hello n1 2             -> ok
        after 14s
        heartbeat n1 2         -> ok
        after 14s
        heartbeat n1 2         -> ok
        after 1999ms
        see                    -> held=1
        after 1ms
        see                    -> held=0 sessions=0"),
    row("T076", "G5 B2", "
        quota 1
        hello n1 1
        mobile m1 anna @n1:1:5 -> allow.new
        release m1 @n1:1:6     -> released.last
        after 10s
        mobile m1 anna @n1:1:7 -> allow.new 1"),
    row("T077", "G10 B2", "
        hello n1 1
        desktop d1 anna @n1:1:1 -> allow.new
        mobile m1 bob           -> allow.new 2
        restart
        see                     -> held=2 sessions=2
        see d1                  -> orphan
        see m1                  -> live
        after 10s
        hello n1 1              -> ok dropped=0
        desktop d1 anna @n1:1:1 -> allow.same 2
        see d1                  -> live"),
    row("T079", "E3", "
        quota 1
        out c1 anna ttl=3600 -> allow.new ttl=3600000
        after 3599s
        see                  -> held=1
        after 999ms
        see                  -> held=1
        after 1ms
        see                  -> held=0"),
    row("T080", "E3 G1", "
        quota 1
        out c1 anna ttl=60 -> allow.new
        after 50s
        out c1 anna ttl=60 -> allow.same first=allow.new 1
        after 50s
        see                -> held=1"),
    row("T082", "J5", "
        quota 3
        desktop d1 anna -> allow.new
        standing suspended
        out c1 anna     -> deny.inactive suspended 1
        desktop d2 bob  -> deny.inactive suspended 1
        in c2 bob       -> allow.free inbound
        standing active
        out c1 anna     -> allow.held 1"),
    row("T083", "J7", "
        desktop d1 anna -> allow.new
        standing stale
        out c1 anna     -> deny.inactive stale
        in c2 anna      -> allow.free inbound"),
    row("T103", "F1 F2", "
        quota 16
        times 14 desktop d# u# -> allow.new
        entitle 10
        see                    -> held=14 over=4
        desktop dn new         -> deny.full 14
        times 4 release d#     -> released.last
        desktop dn new         -> deny.full 10
        release d5             -> released.last 9
        desktop dn new         -> allow.new 10"),
    row("T113", "H1", "
        hello n1 1
        desktop d1 anna @n1:1:1 -> allow.new
        out c1 bob ttl=20       -> allow.new
        wall +3600
        after 14999ms
        see d1                  -> live
        wall -7200
        after 0s
        see d1                  -> live
        after 1ms
        see d1                  -> orphan
        wall +36000
        after 4999ms
        see c1                  -> live
        after 1ms
        see c1                  -> gone"),
    row("T119", "J6 V4", "
        quota 3
        out c1 anna     -> allow.new
        desktop d1 bob  -> allow.new
        mobile m1 cara  -> allow.new 3
        standing ended
        see             -> held=2
        see m1          -> gone
        after 899999ms
        see d1          -> live
        after 1ms
        see d1          -> gone
        see c1          -> live
        see             -> held=1"),
    row("T164", "A1 A2", "
        quota 1
        desktop d1 u-17 -> allow.new
        desktop d2 u-17 -> allow.held 1"),
    row("T166", "A6", "
        quota 1
        desktop d1 anna -> allow.new
        quota 1
        out c1 anna     -> allow.held 1
        out c2 bob      -> deny.full"),
    row("T167", "B4 B5", "
        quota 5
        times 200 phone p# u# -> allow.free service 0
        times 40 phone l# h#  -> allow.free service 0
        see                   -> held=0 sessions=240"),
    row("T172", "L3", "
        quota 16
        desktop d1 anna  -> allow.new
        times 85 in c# - -> allow.free inbound
        see              -> in=85 out=0
        out o1 anna      -> allow.held 1
        see              -> in=85 out=1"),
    row("T173", "L4", "
        quota 16
        times 48 phone p# u# -> allow.free service
        out c1 u1            -> allow.new 1"),
    row("T175", "G10 E3", "
        out c1 anna ttl=3600 -> allow.new
        out c2 bob ttl=3600  -> allow.new 2
        after 600s
        restart
        see                  -> held=2
        see c1               -> live
        after 61s
        see                  -> held=2
        out c3 cara          -> deny.full 2
        after 3529s
        out c1 anna ttl=3600 -> allow.same first=allow.new 2
        after 9999ms
        see c2               -> live
        after 1ms
        see c2               -> gone
        see                  -> held=1"),
    row("T176", "G10", "
        out c1 anna @n1:1:1 ttl=3600 -> allow.new
        out c2 bob @n1:1:2 ttl=3600  -> allow.new 2
        after 600s
        restart
        see                          -> held=2
        after 61s
        see                          -> held=2
        out c3 cara                  -> deny.full 2
        after 3529s
        out c1 anna @n1:1:3 ttl=3600 -> allow.same first=allow.new 2"),
    row("T177", "G10 G6", "
        hello n1 1
        out c1 anna @n1:1:1          -> allow.new
        out c2 bob @n1:1:2 ttl=3600  -> allow.new 2
        restart
        see c1                       -> orphan
        see c2                       -> orphan
        after 59999ms
        see                          -> held=2
        after 15001ms
        see                          -> held=0 sessions=0"),
];
