//! Rows for what the simulation once found, each the shortest story of its kind.

use usherd_testkit::rules::script::Row;

const fn row(id: &'static str, rules: &'static str, script: &'static str) -> Row {
    Row { id, rules, script }
}

/// In the order of their discovery.
pub(crate) const ROWS: &[Row] = &[
    row("a release that outlived its node's restart still unpairs", "V6 G5 G8", "
        hello n1 1
        mobile m1 anna @n1:1:5              -> allow.new
        hello n1 2                          -> ok
        release m1 @n1:1:6                  -> released.last 0"),
    row("a release of an older epoch does not end what a newer one confirmed", "G5 I18", "
        hello n1 1
        mobile m1 anna @n1:1:5              -> allow.new
        hello n1 2
        mobile m1 anna @n1:2                -> allow.same
        release m1 @n1:1:6                  -> released.last
        hello n1 3
        mobile m2 anna @n1:3                -> allow.new
        release m2 @n1:2:9                  -> ignore.stale
        release m2 @n1:2                    -> ignore.stale
        release m2 @n1:3                    -> released.last"),
    row("a listed lifeline stays free", "G9 C18", "
        standing suspended
        hello n1 1
        out l1 lift class=lift @n1:1:1      -> allow.free lifeline
        inventory n1 1 5 out/l1/lift/1      -> kept=1 adopted=0
        see l1                              -> live free
        see                                 -> held=0"),
    row("a listed orphan lives whatever its message says now", "G9 G6", "
        hello n1 1
        int c1 anna @n1:1:1                 -> allow.new
        goodbye n1 1                        -> ok orphaned=1
        policy internal_calls=free
        inventory n1 1 5 int/c1/anna/2      -> kept=1
        see c1                              -> live counts seq=2"),
    row("a list that stores nothing leaves the tombstone", "G9 V6", "
        limits per_tenant=1
        hello n1 1
        phone p1 x @n1:1:1
        release c1 @n1:1:6
        inventory n1 1 8 desktop/c1/anna/5 phone/p1/x/1 -> kept=1 ignored=1
        release p1 @n1:1:9
        desktop c1 anna @n1:1:5             -> ignore.stale"),
    row("a list that is newer than the release adopts, one that is older does not", "G9 G5", "
        hello n1 1
        release c1 @n1:1:6
        inventory n1 1 5 desktop/c1/anna/4  -> ignored=1
        inventory n1 1 7 desktop/c1/anna/4  -> adopted=1
        see c1                              -> seq=4"),
    row("a list does not take an epoch back", "G9 I18", "
        hello n1 4
        in c1 x @n1:5                       -> allow.free
        inventory n1 4 20 in/c1/x/19        -> kept=1
        see c1                              -> live seq=none"),
    row("a denial at the limit leaves the lingering seat", "D3 E2 I26", "
        limits per_tenant=1
        policy linger=5s
        desktop d1 anna                     -> allow.new
        release d1                          -> released.more linger 1
        phone p1 x                          -> allow.free
        desktop d2 anna                     -> deny.full limit 1
        see                                 -> held=1
        release p1
        desktop d2 anna                     -> allow.held 1"),
    row("a node that a heartbeat named is remembered", "G10", "
        heartbeat n1 1                      -> unknown_epoch known=none
        hello n1 1                          -> ok
        heartbeat n2 1                      -> unknown_epoch known=none
        inventory n2 1 1                    -> kept=0
        heartbeat n3 1                      -> unknown_epoch known=none
        desktop d3 anna @n3:1:1             -> allow.new
        desktop d4 anna @n3:1:2 ttl=3600    -> allow.held
        restart
        heartbeat n3 1                      -> unknown_epoch known=1
        see d3                              -> orphan
        see d4                              -> orphan
        heartbeat n1 1                      -> unknown_epoch known=1
        heartbeat n2 1                      -> unknown_epoch known=1
        desktop d1 anna @n1:1:2             -> allow.held"),
    row("what a script's sessions are to a node that says hello after a restart", "G10 G8 G9", "
        quota 9
        desktop d1 anna @n1:1:1 ttl=3600    -> allow.new
        out c1 anna @n1:1:2 ttl=3600        -> allow.held
        out c2 bob @n1:2:1 ttl=3600         -> allow.new
        mobile m1 cara @n1:1:3              -> allow.new
        restart
        see                                 -> held=3
        hello n1 2                          -> ok dropped=1 orphaned=1
        see d1                              -> orphan
        see c1                              -> gone
        see c2                              -> live
        inventory n1 2 5 desktop/d1/anna    -> kept=1 removed=1
        see d1                              -> live
        see c2                              -> gone
        see m1                              -> live"),
    row("a free call without a lease comes back with the life that it was given", "G10 C1", "
        in c1 x @n1:1:1                     -> allow.free
        in c2 x @n1:1:2 ttl=90              -> allow.free
        restart
        after 80s
        see c1                              -> live
        see c2                              -> live
        after 10s
        see c2                              -> gone
        see c1                              -> live"),
    row("stray names keep no node out", "I26", "
        limits nodes=2
        quota 9
        times 20 desktop d# x @stray#:1:1 ttl=60
        hello n1 1                          -> ok
        hello n2 1                          -> ok
        hello n3 1                          -> limit"),
    row("a followed call of a lifeline is free while inactive", "C8 C18", "
        policy transferred_outbound=follow
        standing ended
        out c1 lift class=lift leg=deliver external=false -> allow.free lifeline
        out c2 bob leg=deliver external=false             -> deny.inactive"),
    row("a service call that counts uses a trunk line and counts when internal is free", "C12 L3", "
        policy service_calls=count internal_calls=free channels_enforce=true channels_per_seat=0
        int c1 bob leg=service              -> allow.new
        out c2 bob leg=service              -> deny.full channels"),
    row("a claim renewed by a script gets a life", "E3", "
        hello n1 1
        desktop d1 anna @n1:1:1             -> allow.new ttl=15000
        mobile d1 anna                      -> allow.same ttl=86400000
        after 86399s
        see d1                              -> live
        after 1s
        see d1                              -> gone"),
    row("a restart drains what an ended subscription left", "J6 G10", "
        desktop d1 anna                     -> allow.new
        out c1 bob                          -> allow.new
        standing ended
        restart
        after 30s
        desktop d1 anna                     -> allow.same
        out c1 bob                          -> allow.same
        after 869999ms
        see d1                              -> live
        after 1ms
        see d1                              -> gone
        see c1                              -> live"),
    row("the same of a tenant that is no longer configured", "J6 G10", "
        tenant u 2
        desktop d1 anna t=u                 -> allow.new
        drop u
        restart
        after 30s
        desktop d1 anna t=u                 -> allow.same
        after 870s
        see d1 t=u                          -> gone"),
];
