//! Rows of our own on asking: the order of the checks, classes, quotas, groups, pools, channels, limits (C, D, F).

use usherd_testkit::rules::script::Row;

const fn row(id: &'static str, rules: &'static str, script: &'static str) -> Row {
    Row { id, rules, script }
}

/// D5: every step wins over all that come after it.
pub(crate) const ORDER: &[Row] = &[
    row("emergency before everything", "D5 C14", "
        quota 0
        standing ended
        hello n1 5
        desktop d1 anna existing            -> allow.over 1
        out d1 bob to=110 @n1:1:1           -> allow.free emergency 1 q=0 ttl=none
        desktop d1 bob emergency            -> allow.free emergency
        see d1                              -> subject=anna
        out c1 x to=112 t=nobody ttl=none   -> allow.free emergency 0 q=0"),
    row("free by class before an unknown tenant", "D5 C1 D4", "
        in c1 bob t=nobody                  -> allow.free inbound 0 q=0 ttl=none
        int c1 bob leg=service t=nobody     -> allow.free service
        int c1 - leg=system t=nobody        -> allow.free system
        phone p1 bob t=nobody               -> allow.free service
        out c1 bob t=nobody                 -> deny.unknown_tenant plain 0 q=0 retry=60 sip=403"),
    row("unknown tenant before a missing life", "D5 D4 E3", "
        desktop d1 bob t=nobody ttl=none    -> deny.unknown_tenant
        desktop d1 bob ttl=none             -> fault ttl_s
        desktop d1 bob ttl=none existing    -> fault ttl_s
        desktop d1 bob @n9:1:1              -> fault ttl_s
        in c1 bob ttl=none                  -> allow.free
        mobile m1 bob                       -> allow.new"),
    row("a missing life before the known claim", "D5 E3", "
        desktop d1 bob                      -> allow.new
        desktop d1 bob ttl=none             -> fault ttl_s
        desktop d1 anna ttl=none            -> fault ttl_s"),
    row("conflict before stale", "D5 G4 G5", "
        hello n1 5
        desktop d1 anna @n1:5:9             -> allow.new
        desktop d1 bob @n1:5:1              -> deny.conflict 1
        desktop d1 bob @n1:4:1              -> deny.conflict
        desktop d1 anna @n1:5:8             -> ignore.stale
        desktop d1 anna @n1:4:20            -> ignore.stale
        desktop d1 anna @n1:5:9             -> allow.same"),
    row("the known claim before the standing", "D5 J5", "
        desktop d1 anna                     -> allow.new
        standing suspended
        desktop d1 anna                     -> allow.same first=allow.new
        desktop d1 bob                      -> deny.conflict
        desktop d2 anna                     -> deny.inactive suspended"),
    row("the tombstone before the standing", "D5 G5", "
        hello n1 1
        release d1 @n1:1:6
        standing suspended
        desktop d1 anna @n1:1:6             -> ignore.stale
        desktop d1 anna @n1:1:7             -> deny.inactive"),
    row("an older epoch before the tombstone and the standing", "D5 G5", "
        hello n1 5
        standing ended
        desktop d1 anna @n1:4:6             -> ignore.stale
        desktop d1 anna @n1:4               -> ignore.stale"),
    row("lifeline before inactive, existing before lifeline", "D5 C18 G7", "
        standing stale
        out l1 lift class=lift              -> allow.free lifeline 0 first=none
        out l2 lift class=lift existing     -> allow.new 1
        out c1 bob existing                 -> allow.new 2
        out c2 cara existing                -> allow.over 3
        out c3 dave                         -> deny.inactive stale"),
    row("inactive before seated", "D5 J5", "
        desktop d1 anna                     -> allow.new
        standing suspended
        out c1 anna                         -> deny.inactive suspended 1
        standing stale
        out c1 anna                         -> deny.inactive stale
        standing ended
        out c1 anna                         -> deny.inactive ended"),
    row("seated before a seat, a seat before over", "D5 D2", "
        quota 1
        desktop d1 anna existing            -> allow.new 1
        desktop d2 anna existing            -> allow.held 1
        out l1 anna class=lift              -> allow.held 1
        out l2 lift class=lift              -> allow.over 2
        out l2 lift class=lift              -> allow.same first=allow.over
        desktop d3 anna                     -> allow.held 2"),
];

/// C and B: what counts.
pub(crate) const CLASSES: &[Row] = &[
    row("connectors are free by default, and count by key", "B7", "
        connector k1 crm                    -> allow.free connector 0
        policy connectors=count
        connector k2 crm                    -> allow.new 1
        see k1                              -> live free"),
    row("guests by key", "B6", "
        guest g1 a                          -> allow.new 1
        policy guests=free
        guest g2 b                          -> allow.free guest 1
        guest g1 a                          -> allow.free guest 1
        see g1                              -> live counts"),
    row("service calls by key", "C12", "
        policy service_calls=count
        quota 1
        int c1 bob leg=service              -> allow.new
        int c2 anna leg=service             -> deny.full"),
    row("a service call that counts needs somebody", "C12 A1", "
        policy service_calls=count
        int c1 - leg=service                -> fault subject
        policy service_calls=free
        int c1 - leg=service                -> allow.free service"),
    row("internal by key, the called side never", "C4 C1", "
        int c1 bob                          -> allow.new
        in c2 anna                          -> allow.free inbound
        policy internal_calls=free
        int c3 cara                         -> allow.free internal
        out c4 cara                         -> allow.new 2"),
    row("inbound wins over every leg", "C1", "
        quota 0
        policy service_calls=count
        in c1 bob leg=service               -> allow.free inbound
        in c2 bob leg=system                -> allow.free inbound
        in c3 bob leg=deliver               -> allow.free inbound"),
    row("emergency numbers: trunk prefix, per tenant, global", "C14", "
        quota 0
        policy trunk_prefix=0
        out c1 bob to=0112                  -> allow.free emergency
        out c1 bob to=112                   -> allow.free emergency
        out c1 bob to=00112                 -> deny.full
        out c1 bob to=1122                  -> deny.full
        policy emergency_numbers=110,112,19222
        out c1 bob to=019222                -> allow.free emergency
        out c1 bob to=19222 t=nobody        -> deny.unknown_tenant
        unknown emergency_numbers=911
        out c1 bob to=911 t=nobody          -> allow.free emergency
        out c1 bob to=112 t=nobody          -> deny.unknown_tenant
        out c1 bob to=911                   -> deny.full"),
    row("an emergency number however it is written, and no other", "C14", "
        quota 0
        out c1 bob to=+112                  -> allow.free emergency
        out c1 bob to=tel:1-1-2             -> allow.free emergency
        out c1 bob to=SIP:112@pbx.example:5060 -> allow.free emergency
        out c1 bob to=urn:service:sos.fire  -> allow.free emergency
        out c1 bob to=urn:service:sosx      -> deny.full
        out c1 bob to=+1120                 -> deny.full
        out c1 bob to=sip:1120@112          -> deny.full
        policy trunk_prefix=0-
        policy emergency_numbers=tel:999,+1-10
        out c1 bob to=0/999                 -> allow.free emergency
        out c1 bob to=tel:0110              -> allow.free emergency
        out c1 bob to=+112                  -> deny.full
        out c1 bob to=+112 t=nobody         -> allow.free emergency"),
    row("an emergency call stores nothing, not even over a known session", "C14", "
        out c1 bob                          -> allow.new
        out c1 bob to=112                   -> allow.free emergency 1 q=2
        see c1                              -> counts first=allow.new
        out c2 bob to=112                   -> allow.free emergency
        see c2                              -> gone
        see                                 -> sessions=1 out=1"),
    row("transfer to outside, default", "C7", "
        out c1 bob                          -> allow.new
        release c1 transferred              -> released.last plain 0"),
    row("transfer to outside, charged until its end", "C7", "
        policy transfer_out=charge_until_end
        hello n1 1
        out c1 bob @n1:1:5                  -> allow.new
        int c2 bob @n1:1:6                  -> allow.held
        release c1 @n1:1:7 transferred      -> released.more linger 1
        see c1                              -> live seq=7
        release c1 @n1:1:6                  -> ignore.stale
        release c2 @n1:1:8 transferred      -> released.more plain 1
        see c2                              -> gone
        release c1 @n1:1:9                  -> released.last 0"),
    row("an originated call handed over, default and follow", "C8", "
        quota 1
        desktop dx x                                  -> allow.new
        out c1 bob leg=deliver external=false         -> allow.free inbound
        policy transferred_outbound=follow
        out c2 bob leg=deliver external=false         -> allow.over 2
        out c3 bob leg=deliver external=false         -> allow.held 2
        out c4 cara leg=deliver                       -> allow.free inbound
        out c5 cara leg=deliver external=true         -> allow.free inbound
        int c6 cara leg=deliver external=false        -> allow.free inbound
        release dx                                    -> released.last 1
        release c2                                    -> released.more
        release c3                                    -> released.last 0
        out c7 dave leg=deliver external=false        -> allow.new 1"),
    row("a free request again, and one over a claim", "C1 D5", "
        in c1 bob ttl=60                    -> allow.free inbound ttl=60000
        after 50s
        in c1 bob ttl=60                    -> allow.free inbound first=none
        after 50s
        see c1                              -> live free first=allow.free
        out c2 bob                          -> allow.new 1
        in c2 bob                           -> allow.free inbound 1 ttl=none
        see c2                              -> live counts first=allow.new
        release c2                          -> released.last"),
    row("a claim takes the place of a free session, and leaves it where denied", "D5", "
        quota 1
        in c1 bob                           -> allow.free
        out c1 anna                         -> allow.new 1
        see c1                              -> counts subject=anna
        in c2 bob                           -> allow.free
        out c2 bob                          -> deny.full
        see c2                              -> live free
        release c2                          -> released.none 1"),
    row("free sessions and old messages", "G5 I18", "
        hello n1 5
        release c1 @n1:5:6                  -> released.none
        in c1 bob @n1:5:6                   -> allow.free inbound ttl=none
        see c1                              -> gone
        in c1 bob @n1:5:7                   -> allow.free inbound ttl=15000
        see c1                              -> live
        in c2 bob @n1:4:1                   -> allow.free inbound ttl=none
        see c2                              -> gone
        in c3 bob ttl=none                  -> allow.free ttl=86400000"),
];

/// D4.
pub(crate) const UNKNOWN: &[Row] = &[
    row("unknown tenants draw from the default tenant under their own ids", "D4", "
        quota 1
        default acme
        desktop d1 anna t=new               -> allow.new 1 q=1
        desktop d1 anna t=new               -> allow.same
        see new/d1                          -> live subject=new/anna
        desktop d1 anna                     -> deny.full 1
        in c1 bob t=new                     -> allow.free inbound 0 q=0 ttl=none
        release d1 t=new                    -> released.last 0 q=1
        release d1 t=new                    -> released.none 0 q=1"),
    row("a release of an unknown tenant", "D4 E4", "
        release d1 t=new                    -> released.none 0 q=0"),
];

/// F: quotas, groups, pools.
pub(crate) const QUOTAS: &[Row] = &[
    row("no quota still counts", "F5", "
        quota unlimited
        times 9 desktop d# u#               -> allow.new q=unlimited
        see                                 -> held=9 over=0 q=unlimited
        quota 3
        see                                 -> held=9 over=6
        desktop dn new                      -> deny.full tenant"),
    row("a quota of nothing", "F5", "
        quota 0
        desktop d1 anna                     -> deny.full tenant 0 q=0
        in c1 anna                          -> allow.free inbound"),
    row("entitle and install are the same to a request", "F4 V7", "
        entitle 1
        desktop d1 a                        -> allow.new
        desktop d2 b                        -> deny.full
        entitle 2
        desktop d2 b                        -> allow.new
        entitle 0
        see                                 -> held=2 over=2 sessions=2"),
    row("groups: each may take its own and what is common", "F6", "
        quota 4
        reserve desk=1 door=1
        desktop d1 a                        -> allow.new 1
        desktop d2 b                        -> allow.new 2
        desktop d3 c                        -> deny.full reservation 2
        desktop d4 d group=nosuch           -> deny.full reservation
        desktop d5 e group=desk             -> allow.new 3
        desktop d6 f group=desk             -> deny.full reservation
        desktop d7 g group=door             -> allow.new 4
        desktop d8 h group=door             -> deny.full tenant
        release d1                          -> released.last 3
        desktop d8 h group=door             -> allow.new 4"),
    row("a group takes the common seats beyond its own", "F6", "
        quota 3
        reserve desk=1
        desktop d1 a group=desk             -> allow.new
        desktop d2 b group=desk             -> allow.new
        desktop d3 c                        -> allow.new
        release d1                          -> released.last
        release d2                          -> released.last
        desktop d4 d                        -> allow.new
        desktop d5 e                        -> deny.full reservation"),
    row("a subject keeps the group that seated it", "F6", "
        quota 2
        reserve desk=1
        desktop d1 a group=desk             -> allow.new
        desktop d2 a                        -> allow.held
        release d1                          -> released.more
        desktop d3 b                        -> allow.new 2
        release d2                          -> released.last 1
        desktop d4 c                        -> deny.full reservation 1"),
    row("reservations shrink in file order", "F6", "
        quota 4
        reserve a=2 b=2
        quota 3
        desktop d1 x                        -> deny.full reservation
        desktop d2 y group=b                -> allow.new 1
        desktop d3 z group=b                -> deny.full reservation
        desktop d4 u group=a                -> allow.new 2
        desktop d5 v group=a                -> allow.new 3"),
    row("reservations and existing ones", "F6 G7", "
        quota 1
        reserve a=1
        desktop d1 x existing               -> allow.over 1
        desktop d2 y group=a                -> deny.full tenant"),
    row("a pool limits all its tenants", "F7 F8", "
        pool p 3
        quota 2
        tenant u 2
        tenant nfr 5
        join p
        join p t=u
        desktop d1 a                        -> allow.new
        desktop d2 b                        -> allow.new 2
        desktop d1 a t=u                    -> allow.new 1
        see-pool p                          -> in_use=3
        desktop d2 b t=u                    -> deny.full pool 1 q=2
        desktop d3 c                        -> deny.full tenant 2
        desktop d1 a t=nfr                  -> allow.new 1
        desktop d2 b t=u existing           -> allow.over 2
        see t=u                             -> held=2 over=0
        see-pool p                          -> in_use=4
        release d1                          -> released.last
        release d2                          -> released.last
        see-pool p                          -> in_use=2
        desktop d3 c                        -> allow.new
        pool p 9
        desktop d4 d                        -> allow.new
        see-pool p                          -> in_use=4"),
    row("the counters of a pool", "F7 F8", "
        pool p 10
        quota 4
        tenant u 3
        tenant nfr 50
        join p
        join p t=u
        see-pool p                          -> licensed=10 unassigned=3 unused=7 in_use=0 over=0
        times 4 desktop d# u#               -> allow.new
        desktop d1 a t=u                    -> allow.new
        desktop d1 a t=nfr                  -> allow.new
        see-pool p                          -> licensed=10 unassigned=3 unused=2 in_use=5 over=0
        pool p 4
        see-pool p                          -> licensed=4 unassigned=0 unused=2 in_use=5 over=1
        desktop d2 b t=u                    -> deny.full pool
        quota 1
        see-pool p                          -> licensed=4 unassigned=0 unused=0 in_use=5 over=1
        times 4 release d#                  -> released.last
        see-pool p                          -> licensed=4 unassigned=0 unused=3 in_use=1 over=0"),
    row("seats move with their tenant into another pool", "F7", "
        pool p 2
        pool q 2
        join p
        desktop d1 a                        -> allow.new
        desktop d2 b                        -> allow.new
        see-pool p                          -> in_use=2
        join q
        see-pool p                          -> in_use=0
        see-pool q                          -> in_use=2
        quota 5
        desktop d3 c                        -> deny.full pool
        leave
        see-pool q                          -> in_use=0
        desktop d3 c                        -> allow.new
        join p
        see-pool p                          -> in_use=3
        release d1
        see-pool p                          -> in_use=2"),
    row("no quota, but a pool", "F5 F7", "
        pool p 1
        quota unlimited
        join p
        desktop d1 a                        -> allow.new
        desktop d2 b                        -> deny.full pool q=unlimited
        out l1 lift class=lift              -> allow.over 2
        see                                 -> over=0"),
];

/// L3 and the limits of the table.
pub(crate) const LIMITS: &[Row] = &[
    row("channels deny where they are enforced", "L3", "
        quota 2
        policy channels_enforce=true channels_per_seat=2
        desktop d1 anna                     -> allow.new
        times 3 in c# -                     -> allow.free inbound
        out o1 anna                         -> allow.held 1
        see                                 -> in=3 out=1
        out o2 anna                         -> deny.full channels 1
        policy channels_extra=1
        out o2 anna                         -> allow.held
        out o9 anna                         -> deny.full channels 1
        release o2
        policy channels_extra=0
        out o3 bob                          -> deny.full channels
        int o4 bob                          -> allow.new 2
        int o5 bob external=true            -> deny.full channels
        out o6 bob external=false           -> allow.held
        in o7 -                             -> allow.free inbound
        out o8 lift class=lift              -> allow.over 3
        out o9 cara existing                -> allow.over 4
        out o1 anna                         -> allow.same
        out oa bob leg=deliver              -> allow.free inbound
        see                                 -> in=4 out=4
        quota unlimited
        out o2 anna                         -> allow.held"),
    row("the limit follows the quota of the instant", "L3", "
        quota 0
        policy channels_enforce=true channels_per_seat=1
        out o1 anna                         -> deny.full channels 0
        int o2 anna                         -> deny.full tenant
        quota 1
        out o1 anna                         -> allow.new
        release o1                          -> released.last
        see                                 -> in=0 out=0"),
    row("a full table denies what counts and records nothing that is free", "D5 I26", "
        limits per_tenant=2
        quota 9
        in c1 -                             -> allow.free
        desktop d1 anna                     -> allow.new
        desktop d2 anna                     -> deny.full limit 1
        desktop d3 bob                      -> deny.full limit 1
        in c2 -                             -> allow.free inbound ttl=none
        see c2                              -> gone
        desktop d1 anna                     -> allow.same
        out l1 lift class=lift              -> allow.over limit 1 ttl=none
        desktop d4 cara existing            -> allow.over limit 1 ttl=none
        see                                 -> sessions=2 held=1
        out c1 dave                         -> allow.new 2
        see                                 -> sessions=2 held=2
        quota 2
        desktop d3 bob                      -> deny.full tenant
        tenant u 2
        desktop d1 x t=u                    -> allow.new 1"),
    row("the limit of all tenants together", "I26", "
        limits sessions=2
        tenant u 2
        desktop d1 a                        -> allow.new
        desktop d1 a t=u                    -> allow.new
        desktop d2 b                        -> deny.full limit
        release d1 t=u
        desktop d2 b                        -> allow.new"),
    row("the oldest tombstones go beyond the limit", "G5 I26", "
        limits tombstones=8
        hello n1 1
        release first @n1:1:10
        clock 10ms
        times 99 release filler# @n1:1:10
        clock 10ms
        release last @n1:1:10
        desktop last x @n1:1:9              -> ignore.stale
        desktop first x @n1:1:9             -> allow.new"),
    row("nodes have a limit", "I26", "
        limits nodes=1
        hello n1 1                          -> ok
        hello n2 1                          -> limit
        heartbeat n2 1                      -> limit
        hello n1 2                          -> ok"),
    row("denials carry when to ask again", "U3 U4", "
        quota 0
        policy retry=7 sip=486
        desktop d1 anna                     -> deny.full retry=7 sip=486
        standing ended
        desktop d1 anna                     -> deny.inactive retry=7 sip=486
        unknown retry=9 sip=404
        desktop d1 anna t=nobody            -> deny.unknown_tenant retry=9 sip=404"),
];
