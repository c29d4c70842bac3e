//! The same engine and model under proptest, which shrinks a failing life to a few steps.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use usherd_engine::plan::Limits;
use usherd_engine::session::Now;
use usherd_testkit::rules::model::Model;

use crate::drive::{Pair, apply};
use crate::op::{Config, Op};
use crate::workload::{Senders, config};

/// The state from which the next step is chosen: the model as it would be, and the senders.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    model: Model,
    senders: Senders,
    first: Config,
    now: Now,
}

impl ReferenceStateMachine for Reference {
    type State = Reference;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<Reference> {
        any::<u64>()
            .prop_map(|seed| {
                let first = config(&mut fastrand::Rng::with_seed(seed), None);
                let pair = Pair::new(Limits::default(), first);
                Reference { model: pair.model.clone(), senders: Senders::new(first), first, now: pair.now }
            })
            .no_shrink()
            .boxed()
    }

    fn transitions(state: &Reference) -> BoxedStrategy<Op> {
        let state = state.clone();
        any::<u64>()
            .prop_map(move |seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                state.senders.clone().next(&mut rng, &state.model, state.now.uptime_ms)
            })
            .no_shrink()
            .boxed()
    }

    fn apply(mut state: Reference, op: &Op) -> Reference {
        if let Op::Advance { ms } = op {
            state.now.uptime_ms += ms;
        }
        state.senders.saw(op);
        apply(&mut state.model, state.now, op);
        state
    }
}

/// The engine beside the model.
struct Subject;

impl StateMachineTest for Subject {
    type SystemUnderTest = Pair;
    type Reference = Reference;

    fn init_test(state: &Reference) -> Pair {
        Pair::new(Limits::default(), state.first)
    }

    fn apply(mut pair: Pair, _: &Reference, op: Op) -> Pair {
        pair.step(&op);
        pair
    }

    fn check_invariants(_: &Pair, _: &Reference) {}
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 1_500, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_failing_life_is_shrunk_to_a_few_steps(sequential 1..200 => Subject);
}
