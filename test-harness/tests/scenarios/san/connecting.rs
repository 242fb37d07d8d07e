//! The connecting side, row by row.

use super::support::{bed, session};

#[test]
fn a_session_carries_messages_both_ways() {
    let bed = bed();
    let (mut connector, mut acceptor) = session(&bed.open(), 2, 64);
    for round in 0..10_u8 {
        let at = usize::from(round) % 2;
        connector.endpoint.send(&[round; 17]).expect("sends");
        assert_eq!(acceptor.next(at), [round; 17]);
        acceptor.endpoint.send(&[round; 64]).expect("sends");
        assert_eq!(connector.next(at), [round; 64]);
    }
    drop((connector, acceptor));
    bed.finish();
}
