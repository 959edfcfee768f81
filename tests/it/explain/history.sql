-- Forty days of history: what the planner sees of a gateway that has been in use for a while.
set timezone = 'UTC';

create function sample_id(at timestamptz, number bigint) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex(number), 15, '0'))::uuid
$$;

select create_day(day::date) from generate_series(current_date - 39, current_date, interval '1 day') day;

insert into sources (id, customer_id, name, provider, config, secrets_sealed)
select sample_id(now(), number), (select id from customers), 'source ' || number, 'standard_webhooks', '{}', ''
from generate_series(1, 100) number;

insert into destinations (id, customer_id, name, url, append_query, shard, signing_secrets_sealed, max_concurrency,
                          timeout_ms, retry)
select sample_id(now(), number), (select id from customers), 'destination ' || number, 'https://example.com', false, number,
       '', 10, 1000, '{}'
from generate_series(1, 200) number;

insert into routes (id, customer_id, source_id, destination_id)
select gen_random_uuid(), (select id from customers), sample_id(now(), number % 100 + 1), sample_id(now(), number)
from generate_series(1, 200) number;

create temporary table past as
select number, at, sample_id(at, number) as event_id, sample_id(at, number + 1000000) as delivery_id,
       sample_id(now(), number % 100 + 1) as source_id, sample_id(now(), number % 200 + 1) as destination_id
from (select number, (current_date + time '00:00:01' at time zone 'UTC' - number % 40 * interval '1 day')
                     + number / 40 * interval '10 milliseconds' as at
      from generate_series(1, 200000) number) numbered;

insert into events (id, customer_id, source_id, received_at, type, provider_event_id, method, query, headers, body_size,
                    verification)
select event_id, (select id from customers), source_id, at, 'type ' || number % 50, 'key ' || number, 'POST', '', '[]', 100,
       'verified'
from past where number / 40 % 2 = 0;

insert into event_bodies select id, convert_to(repeat('x', 100), 'UTF8') from events;

insert into event_keys (source_id, key, day, event_id, body_hash)
select source_id, sha256(id::text::bytea), received_at::date, id, substring(sha256('x') from 1 for 16) from events;

insert into event_copies select event_id, event_id from past where number / 40 % 2 = 0;

insert into settled_deliveries (id, customer_id, destination_id, event_id, source_id, state, error, reason, attempts,
                                schedule_start)
select delivery_id, (select id from customers), destination_id, event_id, source_id, outcome.*, 1, 0
from past cross join lateral (
    select case when number % 100 = 0 then 'dead' else 'succeeded' end, case when number % 100 = 0 then 'timeout' end,
           case when number % 100 = 0 then 'no answer' end) outcome;

insert into attempts (id, delivery_id, destination_id, event_id, number, started_at, latency_ms)
select sample_id(at, number + 2000000), delivery_id, destination_id, event_id, 1, at, 5 from past;

insert into rejections (id, source_id, cause, detail, count, first_at, last_at, size, remote)
select event_id, source_id, 'bad_signature', '', 1, at, at, 100, '192.0.2.1' from past where number / 40 % 4 < 2;

insert into unreadable_messages (id, queue_id, queue_message_id, reason, detail, message, next_try_at)
select event_id, '', '', 'not_decodable', '', 'x', now() from past where number / 40 % 4 < 2;

insert into source_counters (source_id, minute, part, stored, copies, rejected)
select id, minute, 0, 1, 0, 0
from sources, generate_series(current_date - 39, current_date + time '23:30', interval '30 minutes') minute;

insert into destination_counters (destination_id, minute, succeeded, dead, failed_attempts, within_50_ms, within_250_ms,
                                  within_1_s, within_5_s, within_30_s, longer)
select id, minute, 1, 0, 0, 1, 0, 0, 0, 0, 0
from destinations, generate_series(current_date - 39, current_date + time '23:00', interval '1 hour') minute;

insert into replays (id, customer_id, filter, state, matched, counting, until_id, finished_at)
select sample_id(now() - number * interval '1 minute', number), (select id from customers), '{}',
       case when number < 3 then 'running' else 'completed' end, 1, false, sample_id(now(), 0),
       case when number < 3 then null else now() end
from generate_series(0, 10000) number;

insert into pending_deliveries (id, customer_id, destination_id, event_id, source_id, replay_id, due_at)
select sample_id(now(), number + 3000000), (select id from customers), destination_id, event_id, source_id,
       case when number % 5 = 0 then sample_id(now() - number % 3 * interval '1 minute', number % 3) end, now()
from past where number / 40 % 4 = 0;

analyze;
