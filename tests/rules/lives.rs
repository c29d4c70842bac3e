//! Rows of our own on ending: releases, linger, tombstones, nodes, inventories, standing, plans, restarts (E, G, J).

use usherd_testkit::rules::script::Row;

const fn row(id: &'static str, rules: &'static str, script: &'static str) -> Row {
    Row { id, rules, script }
}

/// E and G5: releases, linger, tombstones, renewals.
pub(crate) const ENDS: &[Row] = &[
    row("linger keeps the seat for its subject", "E2", "
        quota 1
        policy linger=3s
        desktop d1 anna                     -> allow.new
        release d1                          -> released.more linger 1
        see                                 -> held=1 sessions=0
        desktop d2 bob                      -> deny.full
        after 2999ms
        desktop d2 bob                      -> deny.full
        desktop d1 anna                     -> allow.held 1
        after 5s
        see                                 -> held=1 sessions=1
        release d1                          -> released.more linger
        after 3s
        see                                 -> held=0
        desktop d2 bob                      -> allow.new"),
    row("only a release lingers", "E2", "
        policy linger=3s
        desktop d1 anna ttl=1               -> allow.new
        after 1s
        see                                 -> held=0
        desktop d2 anna                     -> allow.new
        end d2                              -> done 1
        see                                 -> held=0
        desktop d3 anna                     -> allow.new
        desktop d4 anna                     -> allow.held
        release d3                          -> released.more plain 1"),
    row("a lingering seat holds its group and its pool", "E2 F6 F7", "
        quota 2
        pool p 5
        join p
        reserve desk=1
        policy linger=3s
        desktop d1 a group=desk             -> allow.new
        release d1                          -> released.more linger
        see-pool p                          -> in_use=1
        desktop d2 b                        -> allow.new 2
        after 3s
        see-pool p                          -> in_use=1
        desktop d3 c                        -> deny.full reservation 1"),
    row("a release names its own node or none", "G5 G6", "
        hello n1 1
        hello n2 1
        desktop d1 anna @n1:1:5             -> allow.new
        release d1 @n2:1:9                  -> ignore.stale 1
        release d1 @n1:1:4                  -> ignore.stale
        release d1                          -> released.last
        desktop d2 anna                     -> allow.new
        release d2 @n1:1:9                  -> ignore.stale
        release d2                          -> released.last"),
    row("acquire and release may carry one number", "G5 V5", "
        hello n1 1
        desktop d1 anna @n1:1:5             -> allow.new
        desktop d1 anna @n1:1:5             -> allow.same
        release d1 @n1:1:5                  -> released.last
        desktop d1 anna @n1:1:5             -> ignore.stale"),
    row("a tombstone stands to its last millisecond", "G5", "
        hello n1 1
        release d1 @n1:1:6                  -> released.none
        times 20 heartbeat n1 1
        clock 299999ms
        desktop d1 anna @n1:1:6             -> ignore.stale
        clock 1ms
        desktop d1 anna @n1:1:6             -> allow.new"),
    row("a tombstone stops only its own node's numbered messages", "G5", "
        hello n1 1
        hello n2 1
        release d1 @n1:1:6                  -> released.none
        desktop d1 anna                     -> allow.new
        release d1                          -> released.last
        release d2 @n1:1:6                  -> released.none
        desktop d2 anna @n2:1:1             -> allow.new
        release d2 @n2:1:2                  -> released.last
        desktop d2 anna @n1:1:5             -> allow.new"),
    row("a later release moves the tombstone, an earlier one does not", "G5", "
        hello n1 1
        release d1 @n1:1:6                  -> released.none
        release d1 @n1:1:4                  -> released.none
        desktop d1 anna @n1:1:5             -> ignore.stale
        release d1 @n1:1:9                  -> released.none
        desktop d1 anna @n1:1:8             -> ignore.stale
        release d1                          -> released.none
        desktop d1 anna @n1:1:9             -> ignore.stale
        desktop d1 anna @n1:1:10            -> allow.new
        release d1                          -> released.last
        desktop d1 anna @n1:1:9             -> allow.new"),
    row("a ttl that is over leaves a tombstone", "E3 G5", "
        hello n1 1
        desktop d1 anna @n1:1:5 ttl=10      -> allow.new ttl=10000
        after 9999ms
        see d1                              -> live
        after 1ms
        see d1                              -> gone
        desktop d1 anna @n1:1:5             -> ignore.stale
        desktop d1 anna @n1:1:6             -> allow.new"),
    row("a mobile has no time-out, unless one is set", "B2", "
        mobile m1 anna ttl=5                -> allow.new ttl=none
        after 86400s
        see m1                              -> live
        policy mobile_offline=100s
        mobile m1 anna                      -> allow.same ttl=100000
        after 99999ms
        see m1                              -> live
        after 1ms
        see m1                              -> gone"),
    row("a renewal takes node, number and ttl over", "G1 G5 G6", "
        hello n1 1
        hello n2 3
        desktop d1 anna @n1:1:5             -> allow.new ttl=15000
        desktop d1 anna @n2:3:1             -> allow.same
        see d1                              -> node=n2 seq=1
        release d1 @n1:1:9                  -> ignore.stale
        desktop d1 anna @n2:3               -> allow.same
        see d1                              -> seq=1
        desktop d1 anna @n1:1               -> allow.same
        see d1                              -> node=n1 seq=none
        desktop d1 anna ttl=60              -> allow.same ttl=60000
        see d1                              -> node=- seq=none
        desktop d1 anna @n1:1:1             -> allow.same ttl=15000"),
    row("an admin ends what is no call, and a call by force", "V4", "
        hello n1 1
        desktop d1 anna @n1:1:1             -> allow.new
        out c1 anna @n1:1:2                 -> allow.held
        in c2 bob @n1:1:3                   -> allow.free
        end nosuch                          -> not_found
        end c1                              -> needs_force
        end c2                              -> needs_force
        end-subject anna                    -> needs_force
        end-subject nobody                  -> not_found
        see                                 -> sessions=3
        end d1                              -> done 1
        desktop d1 anna @n1:1:1             -> ignore.stale
        end-subject anna force              -> done 1
        see                                 -> held=0 sessions=1
        end c2 force                        -> done 1"),
];

/// G6-G9: nodes.
pub(crate) const NODES: &[Row] = &[
    row("hello, heartbeat, goodbye by epoch", "G8", "
        heartbeat n1 5                      -> unknown_epoch known=none
        heartbeat n1 5                      -> unknown_epoch known=5
        heartbeat n1 6                      -> unknown_epoch known=5
        hello n1 5                          -> ok
        heartbeat n1 5                      -> ok
        heartbeat n1 4                      -> unknown_epoch known=5
        hello n1 4                          -> stale_epoch known=5
        goodbye n1 4                        -> unknown_epoch known=5
        goodbye n2 4                        -> unknown_epoch known=none
        goodbye n1 5                        -> ok orphaned=0
        heartbeat n1 5                      -> unknown_epoch known=5
        hello n1 5                          -> ok dropped=0 orphaned=0
        heartbeat n1 5                      -> ok"),
    row("a lease ends to the millisecond, the grace too", "G6", "
        hello n1 1
        desktop d1 anna @n1:1:1             -> allow.new
        mobile m1 bob @n1:1:2               -> allow.new
        phone p1 cara @n1:1:3               -> allow.free
        after 14999ms
        see d1                              -> live
        after 1ms
        see d1                              -> orphan
        see m1                              -> live
        see p1                              -> orphan
        heartbeat n1 1                      -> unknown_epoch known=1
        after 29999ms
        see                                 -> held=2
        after 1ms
        see                                 -> held=1 sessions=1
        see m1                              -> live"),
    row("a lost node that speaks again renews only what it names", "G6", "
        hello n1 1
        desktop d1 anna @n1:1:1             -> allow.new
        out c1 bob @n1:1:2                  -> allow.new
        after 15s
        desktop d1 anna @n1:1:3             -> allow.same
        see d1                              -> live
        see c1                              -> orphan
        heartbeat n1 1                      -> unknown_epoch known=1
        after 15s
        see d1                              -> orphan
        after 15s
        see c1                              -> gone
        see d1                              -> orphan
        after 15s
        see d1                              -> gone"),
    row("any message of the node renews its lease", "G6", "
        hello n1 2
        desktop d1 anna @n1:2:1             -> allow.new
        after 10s
        release nosuch @n1
        after 10s
        in c1 - @n1:2:3
        after 10s
        out c2 x to=112 @n1
        after 10s
        out c2 x t=nobody @n1:2             -> deny.unknown_tenant
        after 10s
        see d1                              -> live
        out c2 x @n1:1:5                    -> ignore.stale
        after 5s
        see d1                              -> orphan"),
    row("a released orphan is gone", "G6 E1", "
        hello n1 1
        desktop d1 anna @n1:1:1             -> allow.new
        goodbye n1 1                        -> ok orphaned=1
        see d1                              -> orphan
        release d1 @n1:1:2                  -> released.last 0"),
    row("goodbye starts the grace for all but mobiles", "G6", "
        hello n1 1
        desktop d1 anna @n1:1:1             -> allow.new
        mobile m1 anna @n1:1:2              -> allow.held
        out c1 anna @n1:1:3                 -> allow.held
        in c2 anna @n1:1:4                  -> allow.free
        goodbye n1 1                        -> ok orphaned=3
        after 10s
        hello n1 1                          -> ok orphaned=0
        goodbye n1 1                        -> ok orphaned=0
        after 19999ms
        see                                 -> sessions=4
        after 1ms
        see                                 -> sessions=1"),
    row("a new epoch drops calls, orphans the rest", "G8", "
        hello n1 1
        out c1 anna @n1:1:1                 -> allow.new
        in c2 anna @n1:1:2                  -> allow.free
        desktop d1 bob @n1:1:3              -> allow.new
        phone p1 bob @n1:1:4                -> allow.free
        mobile m1 bob @n1:1:5               -> allow.held
        out c3 bob @n1                      -> allow.held
        out c4 bob @n1:2:1                  -> allow.held
        hello n1 2                          -> ok dropped=3 orphaned=2
        see c4                              -> live
        see m1                              -> live
        see d1                              -> orphan
        see p1                              -> orphan
        see                                 -> held=1
        out c1 anna @n1:1:9                 -> ignore.stale
        out c1 anna @n1:2:2                 -> allow.new"),
    row("a node's first hello takes over what it had without one", "G8", "
        out c1 anna @n1:1:1 ttl=60          -> allow.new
        desktop d1 bob @n1:3:1 ttl=60       -> allow.new
        hello n1 3                          -> ok dropped=1 orphaned=0
        after 15s
        see d1                              -> orphan"),
    row("lease and ttl both hold", "E3 G6", "
        hello n1 1
        desktop d1 anna @n1:1:1 ttl=60      -> allow.new ttl=15000
        times 5 after 14s
        see d1                              -> gone
        hello n1 1
        desktop d2 anna @n1:1:9 ttl=20      -> allow.new
        after 14s
        heartbeat n1 1                      -> ok
        after 5999ms
        see d2                              -> live
        after 1ms
        see d2                              -> gone"),
];

/// G9.
pub(crate) const INVENTORIES: &[Row] = &[
    row("an inventory removes what it does not list", "G9", "
        hello n1 1
        out c1 anna @n1:1:1                 -> allow.new
        out c2 anna @n1:1:2                 -> allow.held
        out c3 anna @n1:1:9                 -> allow.held
        mobile m1 anna @n1:1:3              -> allow.held
        in c4 anna @n1:1:4                  -> allow.free
        inventory n2 1 5                    -> unknown_epoch known=none
        inventory n1 2 5                    -> unknown_epoch known=1
        inventory n1 1 5 out/c1/anna/1      -> kept=1 adopted=0 removed=2
        see c2                              -> gone
        see c3                              -> live
        see c4                              -> gone
        see m1                              -> live
        out c2 anna @n1:1:5                 -> ignore.stale
        out c2 anna @n1:1:6                 -> allow.held"),
    row("an inventory adopts above the quota, and keeps conflicts out", "G9 G7", "
        quota 1
        hello n1 1
        hello n2 1
        desktop d1 anna @n2:1:1                                   -> allow.new
        inventory n1 1 9 out/c1/bob/3 desktop/d1/cara in/c2/dave  -> kept=0 adopted=2 removed=0 ignored=1
        see                                                       -> held=2 over=1 sessions=3
        see c1                                                    -> seq=3 first=allow.over node=n1
        see c2                                                    -> seq=9 free node=n1
        see d1                                                    -> subject=anna node=n2
        inventory n1 1 10 out/c1/bob/3 in/c2/dave                 -> kept=2 adopted=0 removed=0 ignored=0"),
    row("an inventory makes orphans live and moves what it lists", "G9 G6", "
        hello n1 1
        hello n2 1
        desktop d1 anna @n1:1:1             -> allow.new
        goodbye n1 1
        inventory n1 1 5 desktop/d1/anna/1  -> kept=1
        see d1                              -> live node=n1
        heartbeat n1 1                      -> ok
        inventory n2 1 7 desktop/d1/anna/2  -> kept=1
        see d1                              -> live node=n2 seq=2
        inventory n1 1 6                    -> removed=0"),
    row("an inventory does not turn a session back", "G9 I18", "
        hello n1 1
        desktop d1 anna @n1:1:9             -> allow.new
        inventory n1 1 5 desktop/d1/anna/4  -> kept=1
        see d1                              -> seq=9
        release d1 @n1:1:10                 -> released.last
        inventory n1 1 8 desktop/d1/anna/9  -> ignored=1 adopted=0
        see d1                              -> gone
        inventory n1 1 12 desktop/d1/anna/11 -> adopted=1"),
    row("an inventory asks no subscription", "G9 D5", "
        quota 0
        standing ended
        hello n1 1
        inventory n1 1 5 out/c1/anna/1      -> adopted=1
        see                                 -> held=1 over=1"),
];

/// J, install and restart.
pub(crate) const STANDING: &[Row] = &[
    row("the end: mobiles at once, clients after the drain, calls never", "J6 V4", "
        quota 9
        policy end_drain=900s
        mobile m1 cara                      -> allow.new
        desktop d1 bob                      -> allow.new
        guest g1 guest                      -> allow.new
        out c1 anna                         -> allow.new
        mobile m2 anna                      -> allow.held
        standing ended
        see                                 -> ended held=3 sessions=3
        after 500s
        desktop d1 bob                      -> allow.same
        after 399999ms
        see d1                              -> live
        after 1ms
        see d1                              -> gone
        see g1                              -> gone
        see                                 -> held=1 sessions=1
        after 80000s
        see c1                              -> live"),
    row("a return lifts the end", "J5 J6", "
        desktop d1 bob                      -> allow.new
        standing ended
        after 899s
        standing active
        after 9999s
        see d1                              -> live"),
    row("suspended and stale end nothing", "J5 J7", "
        mobile m1 cara                      -> allow.new
        desktop d1 bob                      -> allow.new
        standing suspended
        after 3600s
        standing stale
        after 3600s
        see                                 -> held=2
        desktop d1 bob                      -> allow.same"),
    row("an ended pairing leaves no tombstone", "J6 G5", "
        hello n1 1
        mobile m1 anna @n1:1:5              -> allow.new
        standing ended
        standing active
        mobile m1 anna @n1:1:5              -> allow.new"),
    row("a tenant that is taken out keeps its claims until they end", "J6 F1", "
        tenant u 2
        desktop d1 anna t=u                 -> allow.new
        out c1 bob t=u                      -> allow.new
        drop u
        see t=u                             -> ended held=2 over=2 q=0
        out c2 bob t=u                      -> deny.inactive ended
        in c3 bob t=u                       -> allow.free
        after 900s
        see d1 t=u                          -> gone
        see c1 t=u                          -> live
        tenant u 2
        out c2 bob t=u                      -> allow.held 1 q=2"),
    row("a tenant without sessions is dropped", "J6", "
        tenant u 2
        desktop d1 anna t=u                 -> allow.new
        release d1 t=u
        drop u
        see t=u                             -> unknown
        desktop d1 anna t=u                 -> deny.unknown_tenant"),
    row("a new policy decides the next request", "F4", "
        int c1 bob                          -> allow.new
        policy internal_calls=free
        int c2 anna                         -> allow.free internal
        see c1                              -> live counts"),
    row("a restart: claims as orphans, pairings live, tombstones stand", "G10 I17", "
        quota 3
        hello n1 1
        desktop d1 anna @n1:1:5             -> allow.new
        mobile m1 bob @n1:1:6               -> allow.new
        out c1 cara ttl=600                 -> allow.new
        release d9 @n1:1:9
        restart
        see                                 -> held=3 sessions=3
        see d1                              -> orphan subject=anna node=n1 seq=5 first=allow.new
        see c1                              -> live
        see m1                              -> live
        heartbeat n1 1                      -> unknown_epoch known=1
        desktop d9 x @n1:1:9                -> ignore.stale
        desktop d1 anna @n1:1:4             -> ignore.stale
        desktop d1 bob @n1:1:9              -> deny.conflict
        out c1 cara ttl=600                 -> allow.same first=allow.new
        after 59999ms
        see d1                              -> orphan
        after 60s
        see d1                              -> gone
        see c1                              -> live
        see m1                              -> live
        see                                 -> held=2"),
    row("wall clock jumps move nothing", "H1 I25", "
        policy linger=5s
        hello n1 1
        desktop d1 anna @n1:1:1             -> allow.new
        desktop d2 bob ttl=10               -> allow.new
        wall +31536000
        after 1s
        see                                 -> held=2 sessions=2
        release d1 @n1:1:2                  -> released.more linger
        wall -63072000
        after 4999ms
        see                                 -> held=2
        after 1ms
        see                                 -> held=1
        wall +31536000
        after 3999ms
        see d2                              -> live
        after 1ms
        see d2                              -> gone"),
];
