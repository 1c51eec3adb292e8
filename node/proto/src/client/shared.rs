//! How many requests all bulk jobs of this client together may have open (protocol §8.4).
//!
//! What is on its way beyond the product of rate and delay only waits: in sockets, in queues of tasks, in datastores, where
//! nobody can be let past. So the window follows the delay, as in FAST TCP (Jin, Wei, Low 2004): a few requests may wait at any
//! rate, which makes several clients share, and as many more as a little delay takes.
//!
//! The delay is measured in rounds: some requests that were sent one after the other, and the mean time of those that are
//! answered first, all but an eighth of them. Means and not the fastest answers, because paths of key routing differ in
//! length by a factor of three whatever the load; by the time of sending and not of the answer, because the first answers to a
//! burst are those of short paths. The least mean of the last minute or two is the time without queues.
//!
//! Invariants: never below [`MIN_SIZE`]; a window that holds nobody back does not grow.
//!
//! Deliberately absent: losses and `Busy`. Those are a circuit's, and its own window follows them.

use std::time::Duration;

use crate::time::Time;

/// Open requests at first: what the circuits of one bulk job begin with anyway.
const INITIAL_SIZE: f32 = 64.0;
/// The fewest: a quarter of a second on a line of 1 MB/s.
const MIN_SIZE: f32 = 8.0;
/// The most: more than any network's delay asks for at the speed of any processor.
const MAX_SIZE: f32 = 4096.0;
/// The mean time may be so many times that without queues: means of rounds differ by about so much without any.
const STRETCH: f32 = 1.25;
/// And so much longer. Tasks that wake each other need something to work on in turn: without it, a quarter of the speed and of
/// the processors was left unused over loopback, and a page came hardly sooner.
const FETCH_SLACK: Duration = Duration::from_millis(2);
/// The same for inserts, which cost most where nodes work off much at once.
const INSERT_SLACK: Duration = Duration::from_millis(10);
/// Requests that may wait beside that, whatever the delay.
const WAITING: f32 = 4.0;
/// Requests that a round measures, at least; and the part of the window that it is, at least.
const ROUND: u32 = 16;
const ROUND_SHARE: u32 = 4;
/// The most.
const ROUND_MOST: u32 = 128;
/// The part of a round that is not waited for, one in so many: what went astray says nothing of queues.
const STRAGGLERS: u32 = 8;
/// A round whose last request was sent so many times the allowed time ago is too slow, however it ends.
const LATE: u32 = 2;
/// The least mean is forgotten after one to two times this, since paths change. Then the queue is let run dry for a moment,
/// because otherwise it would be measured as part of the way.
const BASE_AGE: Duration = Duration::from_secs(60);
/// Rounds for which it is let run dry: one runs it dry, the next one measures.
const DRYING: u8 = 2;
/// Meanwhile one part in so many of what the way holds is sent, by what is known: a base that was measured under load counts
/// the queue as part of the way.
const DRY: f32 = 3.0;
/// A request that takes so many times the mean of the last round, and so long in any case, has gone astray as far as this window is
/// concerned: circuits through nodes that are silent all at once must not keep the others from sending.
const ASTRAY: u32 = 4;
/// See [`ASTRAY`].
const ASTRAY_LEAST: Duration = Duration::from_secs(2);
/// Without any request for so long, the network may be another one.
const STALE: Duration = Duration::from_secs(10);

/// A request's place in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The round that it is measured in, if any.
    round: Option<u32>,
}

/// A measurement under way.
#[derive(Debug, Default)]
struct Round {
    number: u32,
    size: u32,
    sent: u32,
    ended: u32,
    answered: u32,
    sum: Duration,
    /// Since when it lasts, and when the last of it was sent.
    begun: Time,
    complete: Time,
    /// Requests that were answered while it lasted, whether they are of it or not.
    passed: u32,
    /// Somebody was held back while it lasted.
    full: bool,
}

/// What all bulk jobs may have open of one kind of request.
#[derive(Debug)]
pub(crate) struct SharedWindow {
    slack: Duration,
    size: f32,
    open: usize,
    /// Growing by one for each answer, until answers slow down.
    opening: bool,
    /// Rounds for which the queue is still let run dry.
    drying: u8,
    round: Round,
    mean: Option<Duration>,
    /// Answers a second.
    rate: f32,
    least: [Option<Duration>; 2],
    rotated: Time,
    /// When the last request ended.
    used: Time,
}

impl SharedWindow {
    /// For searches.
    pub(crate) fn of_fetches() -> Self {
        Self::new(FETCH_SLACK)
    }

    /// For inserts.
    pub(crate) fn of_inserts() -> Self {
        Self::new(INSERT_SLACK)
    }

    fn new(slack: Duration) -> Self {
        Self {
            slack,
            size: INITIAL_SIZE,
            open: 0,
            opening: true,
            drying: 0,
            round: Round::default(),
            mean: None,
            rate: 0.0,
            least: [None; 2],
            rotated: Time(0),
            used: Time(0),
        }
    }

    /// Whether one more request may be opened. Who is told no is one that fills the window.
    pub(crate) fn admits(&mut self) -> bool {
        let room = self.open < self.limit();
        self.round.full |= !room;
        room
    }

    fn limit(&self) -> usize {
        let limit = match (self.drying, self.base()) {
            (1.., Some(base)) => (self.rate * base.as_secs_f32() / DRY).min(self.size),
            _ => self.size,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 8 and 4,096"
        )]
        let limit = limit.max(MIN_SIZE) as usize;
        limit
    }

    /// A request was sent.
    pub(crate) fn opened(&mut self, now: Time) -> Place {
        if self.open == 0 {
            if now.since(self.used) > STALE {
                (self.size, self.opening, self.drying) = (INITIAL_SIZE, true, 0);
            }
            self.next_round(now);
        }
        self.open += 1;
        let joins = self.round.sent < self.round.size;
        if joins {
            (self.round.sent, self.round.complete) = (self.round.sent + 1, now);
        }
        Place {
            round: joins.then_some(self.round.number),
        }
    }

    /// A request has ended. `took` when it was answered, and in a time that tells of the load.
    pub(crate) fn ended(&mut self, now: Time, place: Place, took: Option<Duration>) {
        self.open = self.open.saturating_sub(1);
        self.used = now;
        self.round.passed += u32::from(took.is_some());
        if self.opening && self.round.full && took.is_some() {
            self.size = (self.size + 1.0).min(MAX_SIZE);
            self.look_ahead(now);
        }
        if place.round != Some(self.round.number) {
            return;
        }
        self.round.ended += 1;
        if let Some(took) = took {
            self.round.answered += 1;
            self.round.sum += took;
        }
        let size = self.round.size;
        if self.round.ended >= size - size / STRAGGLERS {
            if self.round.answered > size / 2 {
                let mean = self.round.sum / self.round.answered;
                self.measured(now, mean);
            }
            self.next_round(now);
        }
    }

    /// A round that takes much longer than it may says enough before it ends: a window that doubles meanwhile would have to
    /// be waited for.
    fn look_ahead(&mut self, now: Time) {
        let Some(base) = self.base() else { return };
        let lasts = now.since(self.round.complete);
        if self.round.sent == self.round.size && lasts > self.allowed(base) * LATE {
            self.mean = Some(lasts);
            self.opened_enough(now);
            self.next_round(now);
        }
    }

    /// The window was opened until it was too large. What passed through tells how large it should be.
    fn opened_enough(&mut self, now: Time) {
        let lasted = now.since(self.round.begun).as_secs_f32().max(1e-6);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^24")]
        let passed = self.round.passed as f32;
        (self.opening, self.drying, self.rate) = (false, DRYING, passed / lasted);
    }

    /// The age at which a request gives up its place.
    pub(crate) fn astray(&self) -> Duration {
        self.mean
            .map_or(ASTRAY_LEAST, |mean| ASTRAY_LEAST.max(mean * ASTRAY))
    }

    fn allowed(&self, base: Duration) -> Duration {
        base.mul_f32(STRETCH) + self.slack
    }

    /// Requests that are open.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    fn next_round(&mut self, now: Time) {
        let share = u32::try_from(self.limit()).unwrap_or(u32::MAX) / ROUND_SHARE;
        self.round = Round {
            number: self.round.number.wrapping_add(1),
            begun: now,
            size: share.clamp(ROUND, ROUND_MOST),
            ..Round::default()
        };
    }

    fn measured(&mut self, now: Time, mean: Duration) {
        let ageing = now.since(self.rotated) > BASE_AGE;
        if ageing {
            self.least = [None, self.least[0]];
            self.rotated = now;
        }
        self.least[0] = Some(self.least[0].map_or(mean, |least| least.min(mean)));
        let base = self.base().unwrap_or(mean);
        let allowed = self.allowed(base);
        if self.drying > 0 {
            self.drying -= 1;
            if self.drying == 0 {
                let fits = self.rate * allowed.as_secs_f32() + WAITING;
                self.size = self.size.min(fits).max(MIN_SIZE);
            }
            return;
        }
        self.mean = Some(mean);
        if !self.round.full {
            return;
        }
        let next = if mean < (base + allowed) / 2 {
            self.size * 2.0
        } else {
            (self.size * ratio(allowed, mean) + WAITING).min(self.size * 2.0)
        };
        if !self.opening {
            self.rate = self.size * ratio(Duration::from_secs(1), mean);
            self.size = f32::midpoint(self.size, next).clamp(MIN_SIZE, MAX_SIZE);
            if ageing {
                self.drying = DRYING;
            }
        } else if next < self.size {
            self.opened_enough(now);
        }
    }

    /// The mean time without queues, as far as is known.
    fn base(&self) -> Option<Duration> {
        self.least.iter().flatten().min().copied()
    }
}

fn ratio(time: Duration, other: Duration) -> f32 {
    time.as_secs_f32() / other.as_secs_f32().max(1e-6)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::*;

    /// A network that serves one request after the other, and its clients.
    struct World {
        now: Time,
        service: Duration,
        busy: Time,
        clients: Vec<Client>,
        events: BTreeMap<(Time, u64), Event>,
        sequence: u64,
    }

    #[derive(Clone, Copy)]
    enum Event {
        /// A request reaches the server.
        Asked {
            client: usize,
            sent: Time,
            way: Duration,
            place: Place,
        },
        Answered {
            client: usize,
            sent: Time,
            place: Place,
        },
    }

    struct Client {
        window: SharedWindow,
        /// Ways of this client; requests take them in turn.
        ways: Vec<Duration>,
        active: bool,
        answered: u64,
        waited: Duration,
    }

    impl World {
        fn new(service: Duration, clients: usize, ways: &[u64]) -> Self {
            let client = || Client {
                window: SharedWindow::of_fetches(),
                ways: ways.iter().map(|way| Duration::from_millis(*way)).collect(),
                active: false,
                answered: 0,
                waited: Duration::ZERO,
            };
            Self {
                now: Time(1_000_000),
                service,
                busy: Time(0),
                clients: (0..clients).map(|_| client()).collect(),
                events: BTreeMap::new(),
                sequence: 0,
            }
        }

        fn start(&mut self, client: usize) {
            self.clients[client].active = true;
            self.fill(client);
        }

        fn fill(&mut self, index: usize) {
            let client = &mut self.clients[index];
            while client.active && client.window.admits() {
                let place = client.window.opened(self.now);
                self.sequence += 1;
                let draw = usize::try_from(self.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).unwrap();
                let way = client.ways[draw % client.ways.len()];
                let asked = Event::Asked {
                    client: index,
                    sent: self.now,
                    way,
                    place,
                };
                self.events.insert((self.now + way / 2, self.sequence), asked);
            }
        }

        /// Lets time pass. Gives what each client got in it, and what an answer took on average.
        fn run(&mut self, time: Duration) -> (Vec<u64>, Duration) {
            let end = self.now + time;
            for client in &mut self.clients {
                (client.answered, client.waited) = (0, Duration::ZERO);
            }
            while let Some(((at, _), event)) = self.events.first_key_value().map(|(at, event)| (*at, *event))
                && at <= end
            {
                self.events.pop_first();
                self.now = at;
                match event {
                    Event::Asked {
                        client,
                        sent,
                        way,
                        place,
                    } => {
                        self.busy = self.busy.max(at) + self.service;
                        self.sequence += 1;
                        let answered = Event::Answered { client, sent, place };
                        self.events.insert((self.busy + way / 2, self.sequence), answered);
                    }
                    Event::Answered {
                        client: index,
                        sent,
                        place,
                    } => {
                        let client = &mut self.clients[index];
                        client.answered += 1;
                        client.waited += at.since(sent);
                        client.window.ended(at, place, Some(at.since(sent)));
                        self.fill(index);
                    }
                }
            }
            self.now = end;
            let got: Vec<u64> = self.clients.iter().map(|client| client.answered).collect();
            let waited: Duration = self.clients.iter().map(|client| client.waited).sum();
            let count = u32::try_from(got.iter().sum::<u64>()).unwrap();
            (got, waited / count.max(1))
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_way_is_filled_and_little_waits() {
        for (service, ways) in [(200, [1, 3]), (200, [50, 150]), (10_000, [20, 60])] {
            let service = Duration::from_micros(service);
            let mut world = World::new(service, 1, &ways);
            world.start(0);
            world.run(seconds(10));
            let (got, took) = world.run(seconds(10));
            let possible = seconds(10).as_micros() / service.as_micros();
            assert!(
                u128::from(got[0]) * 10 >= possible * 9,
                "{ways:?}: {got:?} of {possible}"
            );
            let way = Duration::from_millis((ways[0] + ways[1]) / 2);
            assert!(took < way * 3 / 2 + service * 20, "{ways:?}: {took:?}");
        }
    }

    #[test]
    fn a_long_way_is_filled_soon() {
        let mut world = World::new(Duration::from_micros(200), 1, &[50, 150]);
        world.start(0);
        world.run(seconds(1));
        let (got, _) = world.run(seconds(1));
        assert!(got[0] > 3500, "{got:?} of 5,000");
    }

    #[test]
    fn who_comes_later_shares_with_who_was_first() {
        for ways in [[1, 3], [10, 30]] {
            let mut world = World::new(Duration::from_micros(200), 2, &ways);
            world.start(0);
            world.run(seconds(20));
            world.start(1);
            world.run(seconds(20));
            let (got, took) = world.run(seconds(10));
            assert!(got.iter().all(|each| *each > 5000), "{ways:?}: {got:?} of 50,000");
            assert!(
                took < Duration::from_millis(12 + 2 * ways[1]),
                "{ways:?}: {took:?}"
            );
        }
    }

    #[test]
    fn a_longer_way_is_accepted_in_time() {
        let mut world = World::new(Duration::from_millis(2), 1, &[20]);
        world.start(0);
        world.run(seconds(10));
        world.clients[0].ways = vec![Duration::from_millis(100)];
        world.run(BASE_AGE * 2 + seconds(10));
        let (got, _) = world.run(seconds(10));
        assert!(got[0] > 4500, "{got:?} of 5,000");
    }

    #[test]
    fn a_window_that_holds_nobody_back_does_not_grow() {
        let mut window = SharedWindow::of_fetches();
        let limit = window.limit();
        for step in 0..1000 {
            let now = Time(step * 1000);
            assert!(window.admits());
            let place = window.opened(now);
            window.ended(
                now + Duration::from_millis(1),
                place,
                Some(Duration::from_millis(1)),
            );
        }
        assert_eq!(window.limit(), limit);
    }

    #[test]
    fn what_is_lost_leaves_its_place() {
        let mut window = SharedWindow::of_fetches();
        let mut places = VecDeque::new();
        for step in 0..10_000 {
            while window.admits() {
                places.push_back(window.opened(Time(step)));
            }
            let took = (step % 3 == 0).then_some(Duration::from_millis(20));
            window.ended(Time(step), places.pop_front().unwrap(), took);
            assert!(window.limit() >= 8);
        }
        for place in places {
            window.ended(Time(10_000), place, None);
        }
        assert_eq!(window.open, 0);
    }
}
