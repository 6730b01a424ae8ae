//! One sender gets a socket to itself: the one that most messages of a listener come from.
//!
//! For a socket that is connected to the sender the kernel does not look up the route of each
//! datagram, which is 4 % of all work where datagrams of MTU size arrive one by one. It looks so
//! only at the socket bound last to an address and port, hence one favourite a listener, and none
//! where several workers share the port. How a flow keeps its order while it moves between sockets
//! is in `inbound.rs`.

use std::net::SocketAddr;

/// Messages in one batch that make a sender worth a socket: one packet at a time gains nothing.
const BULK: usize = 8;
/// Messages after which it is decided who is the favourite.
const ENOUGH: usize = 4096;

/// Who has the socket, and who might have it.
#[derive(Debug)]
pub(crate) struct Favourite {
    /// Where the socket is bound.
    pub(crate) local: SocketAddr,
    /// Somebody has it.
    pub(crate) taken: bool,
    /// Nobody gets it any more, and what is still in it is taken.
    pub(crate) lent: bool,
    /// What came through it since it was last decided.
    heard: usize,
    /// The sender most heard of those who do not have it.
    candidate: Option<SocketAddr>,
    weight: usize,
}

impl Favourite {
    /// Nobody's yet.
    pub(crate) fn new(local: SocketAddr) -> Self {
        Self {
            local,
            taken: false,
            lent: false,
            heard: 0,
            candidate: None,
            weight: 0,
        }
    }

    /// Messages came through the favourite's socket.
    pub(crate) fn hear(&mut self, messages: usize) {
        self.heard += messages;
    }

    /// A batch came through the ordinary socket, a message of it from `sender`; tells whether that
    /// sender shall have the favourite's socket.
    pub(crate) fn weigh(&mut self, sender: SocketAddr, messages: usize) -> bool {
        if messages < BULK || self.lent {
            return false;
        }
        // A majority vote: who sends more than all others together is what is left in the end.
        if self.candidate == Some(sender) {
            self.weight += messages;
        } else if self.weight > messages {
            self.weight -= messages;
        } else {
            (self.candidate, self.weight) = (Some(sender), messages);
        }
        if self.weight < ENOUGH {
            return false;
        }
        // Twice as much, lest two equals take it from each other all the time.
        let louder = self.weight > 2 * self.heard;
        (self.weight, self.heard) = (0, 0);
        louder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 168, 77, last], 8285))
    }

    /// Which of the batches made their sender the favourite.
    fn chosen(favourite: &mut Favourite, batches: &[(u8, usize)]) -> Vec<u8> {
        let wins = |(last, messages): &(u8, usize)| {
            favourite.weigh(sender(*last), *messages).then_some(*last)
        };
        batches.iter().filter_map(wins).collect()
    }

    #[test]
    fn a_sender_of_much_is_chosen_once() {
        let mut favourite = Favourite::new(sender(1));
        assert_eq!(chosen(&mut favourite, &[(2, 64); 64]), [2]);
        assert!(chosen(&mut favourite, &[(2, 64); 63]).is_empty());
    }

    #[test]
    fn among_many_only_the_majority_is_chosen() {
        let mut favourite = Favourite::new(sender(1));
        let equals: Vec<_> = (0..1000).map(|turn| (2 + (turn % 3) as u8, 64)).collect();
        assert!(chosen(&mut favourite, &equals).is_empty());
        let majority: Vec<_> = (0..1000)
            .map(|turn| (2 + u8::from(turn % 3 == 0), 64))
            .collect();
        let chosen = chosen(&mut favourite, &majority);
        assert!(!chosen.is_empty() && chosen.iter().all(|last| *last == 2));
    }

    #[test]
    fn single_packets_choose_nobody() {
        assert!(chosen(&mut Favourite::new(sender(1)), &[(2, 7); 10_000]).is_empty());
    }

    #[test]
    fn an_equal_does_not_take_it_from_the_favourite() {
        let mut favourite = Favourite::new(sender(1));
        for _ in 0..10_000 {
            favourite.hear(64);
            assert!(!favourite.weigh(sender(3), 64));
        }
        // The favourite has fallen silent.
        assert!(!chosen(&mut favourite, &[(3, 64); 200]).is_empty());
    }
}
