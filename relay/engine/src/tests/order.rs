//! How many reads of the table the order per key costs.

use super::*;

/// Within the time before the last read that the next read covers again.
const RETRY_US: u64 = START_US - UNSEEN_US / 2;

/// A delivery with a key that is due for a retry.
fn retried(destination: &Destination, number: u32, key: i64) -> Item {
    Item { attempts: 1, order_key: Some(key), ..item(destination, number, RETRY_US + u64::from(number)) }
}

/// The table of one destination: executes reads until none is requested.
struct Table<'a> {
    destination: &'a Destination,
    rows: Vec<Item>,
    reads: usize,
    now_us: u64,
}

impl Table<'_> {
    /// Executes the reads of these commands, and of those that follow from them. Returns the deliveries that are sent.
    fn answer(&mut self, core: &mut Core, commands: Vec<Command>) -> Vec<Item> {
        let mut sent = sends(&commands);
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            let input = match command {
                Command::Read { lane, limit, begin_us, known, busy, .. } => {
                    self.reads += 1;
                    assert!(self.reads < 1_000, "reads have no end");
                    let due = |row: &&Item| {
                        row.lane() == lane
                            && row.due_us >= begin_us
                            && !known.contains(&row.id)
                            && row.order_key.is_none_or(|key| !busy.contains(&key))
                    };
                    let items: Vec<Item> = self.rows.iter().filter(due).take(limit).cloned().collect();
                    let found = Found { complete: items.len() < limit, items, read_us: self.now_us };
                    Input::Found { destination: self.destination.id, lane, epoch: 1, found }
                }
                Command::Settle(settlement) => {
                    self.rows.retain(|row| row.id != settlement.delivery_id);
                    written(vec![settlement], self.now_us)
                }
                Command::Send { .. }
                | Command::ReadExpedited { .. }
                | Command::LoadHealth(_)
                | Command::BreakOff
                | Command::Disable(..)
                | Command::Report(_) => continue,
            };
            let more = core.handle(input, self.now_us);
            sent.extend(sends(&more));
            commands.extend(more);
        }
        sent
    }
}

#[test]
fn a_retry_behind_a_delivery_in_flight_is_read_once_until_that_one_is_answered() {
    let mut destination = destination(1);
    destination.rate = NonZeroU32::new(1).map(|limit| Rate { limit, per: Duration::from_secs(1) });
    let mut core = core_with(&destination);
    core.handle(Input::Rescan(destination.id), START_US);
    let rows: Vec<Item> = (0..9).map(|number| retried(&destination, number, 7)).collect();
    let mut table = Table { destination: &destination, rows, reads: 0, now_us: START_US };
    let found = Found { items: table.rows[..8].to_vec(), complete: false, read_us: START_US };
    let commands =
        core.handle(Input::Found { destination: destination.id, lane: Lane::Retry, epoch: 1, found }, START_US);
    let sent = table.answer(&mut core, commands);
    assert_eq!((sent.len(), sent[0].id), (1, table.rows[0].id));
    assert_eq!(table.reads, 1, "one read, to see that there is nothing else");
    let commands = core.handle(Input::Woken, START_US + 1_900_000);
    assert_eq!((sends(&commands).len(), reads(&commands)), (0, Vec::new()));
}

#[test]
fn retries_after_those_of_a_busy_key_are_sent_and_the_key_continues_when_its_delivery_is_settled() {
    let mut destination = destination(1);
    // One slot is kept for deliveries that have not been tried.
    destination.max_concurrency = 4;
    let mut core = core_with(&destination);
    let mut rows: Vec<Item> = (0..50).map(|number| retried(&destination, number, 7)).collect();
    rows.extend([retried(&destination, 100, 8), retried(&destination, 101, 9)]);
    let mut table = Table { destination: &destination, rows, reads: 0, now_us: START_US };
    let commands = core.handle(Input::Rescan(destination.id), START_US);
    let first = table.answer(&mut core, commands);
    let keys: Vec<Option<i64>> = first.iter().map(|item| item.order_key).collect();
    assert_eq!(keys, [Some(7), Some(8), Some(9)]);

    let (mut in_flight, mut done) = (VecDeque::from(first), 0);
    while let Some(item) = in_flight.pop_front() {
        let commands = core.handle(answered(item, succeeded()), START_US);
        in_flight.extend(table.answer(&mut core, commands));
        let of_key = in_flight.iter().filter(|item| item.order_key == Some(7)).count();
        assert!(of_key <= 1, "{of_key} of one key in flight");
        done += 1;
    }
    assert_eq!((done, table.rows.len()), (52, 0));
    // Both lanes are read when one is settled, and the lane of retries twice if it holds more than one read returns.
    assert!(table.reads <= 3 + 3 * 52, "{} reads", table.reads);
}

#[test]
fn a_probe_behind_a_long_queue_of_one_key_is_found_in_few_reads() {
    let destination = destination(1);
    let mut core = core_with(&destination);
    for number in 0..10 {
        let sent = sends(&core.handle(Input::Fresh(vec![item(&destination, number, START_US)]), START_US));
        let settled = settlements(&core.handle(answered(sent[0].clone(), failed(500, None)), START_US));
        core.handle(written(settled, START_US), START_US);
    }
    let behind = |number| {
        let before = if number == 100 { Before::Tried } else { Before::Untried };
        Item { before, order_key: Some(7), ..item(&destination, number, START_US + u64::from(number)) }
    };
    let mut rows: Vec<Item> = (100..300).map(behind).collect();
    rows.push(Item { order_key: Some(8), ..item(&destination, 300, START_US + 300) });
    let mut table = Table { destination: &destination, rows, reads: 0, now_us: START_US + FIRST_OPEN_US };
    let commands = core.handle(Input::Woken, table.now_us);
    let sent = table.answer(&mut core, commands);
    assert_eq!(sent.iter().map(|item| item.order_key).collect::<Vec<_>>(), [Some(8)]);
    assert_eq!(table.rows.len(), 1, "the deliveries behind others are no longer due");
    assert!(table.reads <= 40, "{} reads", table.reads);
}

#[test]
fn the_next_delivery_of_a_key_is_read_every_ten_minutes_and_those_behind_it_at_growing_intervals() {
    let wait_s = |before, waited_s: u64| {
        let id = DeliveryId::mint(START_US / 1_000 - waited_s * 1_000, [1; 10]);
        let item = Item { id, before, ..item(&destination(1), 1, START_US) };
        behind_wait(&item, START_US).as_secs()
    };
    let day_s = 24 * 3_600;
    assert_eq!([0, 600, 5_000, day_s].map(|waited_s| wait_s(Before::Untried, waited_s)), [600, 600, 5_000, 21_600]);
    assert_eq!([0, day_s].map(|waited_s| wait_s(Before::Tried, waited_s)), [600, 600]);
}
