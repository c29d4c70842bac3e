//! A caller who gives up: while it rings, and while usherd has not answered yet.

use usherd_testkit::kamailio::lab::{Lab, free_port, phones_ip, trunk_ip};
use usherd_testkit::kamailio::sip::{Phone, connect, hang_up};
use usherd_testkit::wait::eventually;

#[test]
fn a_call_given_up_while_it_rings_leaves_no_seat() {
    let lab = Lab::new(1);
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    let call = anna.invite("anna", "0301234567", "ringing", "");
    let invite = trunk.receive("INVITE ", None);
    trunk.answer(&invite, "180 Ringing", "t", "");
    anna.receive("180 ", None);
    assert_eq!(lab.held(), 1, "ringing counts");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let cancel = trunk.receive("CANCEL ", None);
            trunk.answer(&cancel, "200 OK", "t", "");
            trunk.answer(&invite, "487 Request Terminated", "t", "");
        });
        anna.cancel(&call);
    });
    lab.until_held(0);
    assert_eq!(lab.statistic("usherd_released"), 1);
}

#[test]
fn a_call_given_up_while_the_answer_is_pending_leaves_no_seat() {
    let lab = Lab::new(1);
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    lab.usherd().pause();
    let call = anna.invite("anna", "0301234567", "pending", "");
    eventually("the call to be asked for", || (lab.statistic("usherd_asked") == 1).then_some(()));
    anna.cancel(&call);
    lab.usherd().signal(rustix::process::Signal::CONT);
    // The release is the last thing that this call sends.
    eventually("its release", || (lab.statistic("usherd_released") == 1).then_some(()));
    lab.until_held(0);
    assert_eq!(lab.sessions().len(), 0);
    assert!(!trunk.received("INVITE "), "nobody is called any more");
    // A second call finds the seat free.
    let again = anna.invite("anna", "0301234567", "again", "");
    let invite = trunk.receive("INVITE ", Some("again"));
    let (again, _) = connect(&mut anna, again, &mut trunk, &invite, "t2");
    assert_eq!(lab.held(), 1);
    hang_up(&mut anna, again, &mut trunk);
    lab.until_held(0);
}
