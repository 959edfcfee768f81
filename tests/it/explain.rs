//! explain: no statement of the relay reads more as history grows.
//!
//! Every statement in `.sqlx` is planned against tables that hold forty days of history. As for the relay, PostgreSQL
//! makes a custom plan for the values of each execution. A statement with an optional filter is planned with and
//! without it.

use std::collections::{BTreeMap, BTreeSet};

use harness::place;
use harness::postgres::{Database, PARTITIONED};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

/// Tables without partitions, which grow with the work that is pending. Those of [`PARTITIONED`] grow with history.
const GROWING: [&str; 2] = ["pending_deliveries", "replays"];

/// The maximum number of partitions of one table that a statement may plan for, unless it is one of [`EVERY_DAY`]: a
/// day, the next one, and the dedupe days.
const FEW_DAYS: usize = 5;

/// Prefixes of the statements that may read a whole growing table, with the reason.
const MAY_SCAN: [(&str, &str); 1] =
    [("select id, queue_id, queue_message_id, reason", "a range of a table that has few rows")];

/// Prefixes of the statements that find where a range of a search ends. Whatever the range, the order must come from an
/// index and nothing may be sorted: then they stop after the number of rows that they request.
const RANGE_LIMITS: [&str; 5] = [
    "select id from events where id >= $1 and id < $2",
    "select id from settled_deliveries where id >= $1 and id < $2",
    "select id from pending_deliveries where id >= $1 and id < $2",
    "select id from rejections where id >= $1 and id < $2",
    "select id from unreadable_messages where id >= $1 and id < $2",
];

/// Prefixes of the statements that do the same for several sources or destinations. They sort only what they have found:
/// one id for each.
const RANGE_LIMITS_OF_SEVERAL: [&str; 3] = [
    "select edge.id as \"id!\" from unnest($3::uuid[]) owned (id) cross join lateral ( select id from events where",
    "select edge.id as \"id!\" from unnest($3::uuid[]) owned (id) cross join lateral ( select id from settled_deliveries \
     where",
    "select edge.id as \"id!\" from unnest($3::uuid[]) owned (id) cross join lateral ( select id from rejections where",
];

/// Prefixes of the statements that read one range of a search. With any filters, they plan for no more than the days of
/// their range.
const IN_A_RANGE: [&str; 6] = [
    "select events.id, source_id, sources.name",
    "select events.id, source_id, body_size",
    "select delivery.id, event_id, source_id, destination_id, destination_name",
    "select rejections.id",
    "select id, queue_id, queue_message_id, reason, detail, octet_length(message) + coalesce(octet_length(body), 0) as \
     \"size!\", stored_at, tries, nullif(next_try_at, 'infinity') as next_try_at, released_at, event_id from \
     unreadable_messages where id >= $1 and id < $2",
    "select count(*) as \"count!\" from events",
];

/// Prefixes of the statements that may plan for the partitions of all days, with the reason.
const EVERY_DAY: &[(&str, &str)] = &[
    ("select history.history, history.kept_from", OF_CHANGES),
    ("update change_history set kept_from", OF_CHANGES),
    (
        "select event_id from event_bodies where event_id = any($1) and exists",
        "the bodies of up to 500 events by their ids, which are known at execution: other days are not read",
    ),
    ("select found.event_id, bool_or", "the deliveries of up to 2,000 events of a range, by their index"),
    ("select wanted.id, found.state", "the deliveries of the events of one page, by their index"),
    ("select delivery_id, number, started_at", "the attempts of up to 20 deliveries of one event, by their index"),
    (
        "select distinct on (delivery_id) delivery_id, status",
        "the attempts of up to 2,000 deliveries of a range, by their index",
    ),
    (
        "select error, status, count(*) as \"count!\", max(started_at)",
        "the attempts of up to 100 deliveries of one destination, by their index",
    ),
    (
        "select count(*) as \"count!\" from settled_deliveries",
        "a range of deliveries, and for each one the other deliveries of its event, by their index",
    ),
    (
        "select id, event_id, source_id, destination_id, route_id, undecided, exists",
        "a range of deliveries, and for each one the other deliveries of its event, by their index",
    ),
    (
        "update unreadable_messages set tries",
        "the next due message: one entry of a small index for each day, once a minute",
    ),
    (
        "update unreadable_messages set next_try_at = now()",
        "waiting messages, by a small index for each day, when a relay starts, a source appears, or an operator releases them",
    ),
    (
        "select destination_id, event_id, replay_id, state, exists",
        "one body by its id, which is known at execution: the partitions of the other days are not read",
    ),
    (
        "delete from unreadable_messages where event_id",
        "one entry of a small index for each day, when a body is erased",
    ),
    ("select key, day from event_keys where source_id", OF_A_DELETED_CUSTOMER),
    ("delete from event_keys using unnest", OF_A_DELETED_CUSTOMER),
    ("select minute from source_counters where source_id = $1 order by", OF_A_DELETED_CUSTOMER),
    ("delete from source_counters", OF_A_DELETED_CUSTOMER),
    ("select minute from destination_counters where destination_id = $1 order by", OF_A_DELETED_CUSTOMER),
    ("delete from destination_counters", OF_A_DELETED_CUSTOMER),
];

/// Why the deletion of a customer may plan for all days.
const OF_A_DELETED_CUSTOMER: &str =
    "one source or destination of a deleted customer: a limited number of entries of the primary key of each day";

/// Why a statement may plan for all days of the changes.
const OF_CHANGES: &str = "changes are kept for three days, and each day is read by its primary key";

/// The tables and partitions that a statement reads, and how often it sorts.
#[derive(Debug, Default)]
struct Reads {
    /// Growing tables that are read as a whole.
    scanned: BTreeSet<String>,
    /// The days of the partitions that are read, by table.
    days: BTreeMap<String, BTreeSet<String>>,
    /// The number of sorts in the plan.
    sorts: usize,
}

impl Reads {
    fn note(&mut self, plan: &Value) {
        let node = plan["Node Type"].as_str().unwrap_or_default();
        if let Some(name) = plan["Relation Name"].as_str().filter(|_| node != "ModifyTable") {
            let (table, day) = match name.rsplit_once('_') {
                Some((table, day)) if day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit()) => {
                    (table, Some(day))
                }
                Some(_) | None => (name, None),
            };
            if let Some(day) = day {
                self.days.entry(table.to_owned()).or_default().insert(day.to_owned());
            }
            if node == "Seq Scan" && (PARTITIONED.contains(&table) || GROWING.contains(&table)) {
                self.scanned.insert(table.to_owned());
            }
        }
        self.sorts += usize::from(node.ends_with("Sort"));
        for child in plan["Plans"].as_array().into_iter().flatten() {
            self.note(child);
        }
    }
}

/// A statement of the relay, as sqlx has described it.
struct Statement {
    text: String,
    parameters: Vec<String>,
}

impl Statement {
    fn all() -> Vec<Self> {
        let folder = std::fs::read_dir(place::repository().join(".sqlx")).expect("the folder of statements exists");
        let mut statements: Vec<Self> = folder
            .map(|file| {
                let text = std::fs::read_to_string(file.expect("a file").path()).expect("reads");
                let described: Value = serde_json::from_str(&text).expect("json");
                let types = described["describe"]["parameters"]["Left"].as_array().expect("parameters").iter();
                Self {
                    text: described["query"].as_str().expect("a statement").to_owned(),
                    parameters: types.map(|name| name.as_str().expect("a type").to_owned()).collect(),
                }
            })
            // Statements that read the system catalogue or change settings have no plan that grows.
            .filter(|statement| !statement.text.starts_with("set ") && !statement.text.contains("pg_class"))
            .collect();
        statements.sort_by(|left, right| left.text.cmp(&right.text));
        statements
    }

    /// Its text in one line, without the types as which the relay reads columns.
    fn name(&self) -> String {
        let line = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut columns = line.split(" as \"");
        let mut name = columns.next().unwrap_or_default().to_owned();
        for column in columns {
            match column.split_once('"') {
                Some((read, rest)) if read.contains(": ") => name.push_str(rest),
                Some(_) | None => name.extend([" as \"", column]),
            }
        }
        name
    }

    /// Whether a parameter is an optional filter.
    fn is_optional(&self, number: usize) -> bool {
        let is_null = |kind: &str| format!("${number}::{kind} is null");
        ["uuid", "text"].iter().any(|kind| {
            self.text.contains(&format!("{} or", is_null(kind)))
                || self.text.contains(&format!("or {})", is_null(kind)))
        })
    }

    /// Its parameters as literals, with ids and times of the last day.
    fn literals(&self, samples: &Samples, left_out: bool) -> String {
        let literals: Vec<String> = (1..=self.parameters.len())
            .map(|number| match left_out && self.is_optional(number) {
                true => "null".to_owned(),
                false => self.literal(samples, number),
            })
            .collect();
        if literals.is_empty() { String::new() } else { format!("({})", literals.join(", ")) }
    }

    /// The parameters of a search over all ids: without a filter, and with each filter alone.
    fn literals_of_searches(&self, samples: &Samples) -> Vec<String> {
        let is_filter = |number: usize| self.parameters[number - 1] == "Bool" || self.is_optional(number);
        let filters = (1..=self.parameters.len()).filter(|number| is_filter(*number));
        let sets = std::iter::once(None).chain(filters.map(Some));
        sets.map(|given| {
            let literal = |number: usize| match number {
                1 => quoted("00000000-0000-0000-0000-000000000000"),
                2 => quoted("ffffffff-ffff-ffff-ffff-ffffffffffff"),
                _ if given == Some(number) || !is_filter(number) => self.literal(samples, number),
                _ if self.parameters[number - 1] == "Bool" => "false".to_owned(),
                _ => "null".to_owned(),
            };
            let literals: Vec<String> = (1..=self.parameters.len()).map(literal).collect();
            format!("({})", literals.join(", "))
        })
        .collect()
    }

    fn literal(&self, samples: &Samples, number: usize) -> String {
        let name = format!("${number}");
        let (before, _) = self.text.split_once(&name).expect("a parameter is used");
        let before = before.trim_end();
        match self.parameters[number - 1].as_str() {
            "Uuid" => match before.rsplit(|letter: char| letter.is_whitespace() || letter == '(').nth(1) {
                Some(column) if column.ends_with("customer_id") => quoted(&samples.customer),
                Some(column) if column.ends_with("source_id") => quoted(&samples.source),
                Some(column) if column.ends_with("destination_id") => quoted(&samples.destination),
                Some(_) | None if before.ends_with('>') || before.ends_with(">=") => quoted(&samples.from),
                Some(_) | None if before.ends_with('<') => quoted(&samples.until),
                Some(_) | None => quoted(&samples.event),
            },
            "UuidArray" => format!("array['{}'::uuid]", samples.event),
            "Int2" | "Int4" | "Float8" => "3".to_owned(),
            "Int8" => "100".to_owned(),
            "Bool" => "true".to_owned(),
            "Text" if self.text.contains(&format!("date_trunc({name}")) => "'hour'".to_owned(),
            "Text" => "'dead'".to_owned(),
            "Bytea" => "'x'".to_owned(),
            "Jsonb" => "'{}'".to_owned(),
            "Date" => "current_date".to_owned(),
            "Timestamptz" if before.ends_with(">=") => "now() - interval '1 day'".to_owned(),
            "Timestamptz" => "now()".to_owned(),
            "Int2Array" | "Int4Array" | "Int8Array" => "array[3]".to_owned(),
            "Float8Array" => "array[3.0::float8]".to_owned(),
            "BoolArray" => "array[true]".to_owned(),
            "TextArray" => "array['dead']".to_owned(),
            "ByteaArray" => "array['x'::bytea]".to_owned(),
            "JsonbArray" => "array['{}'::jsonb]".to_owned(),
            "DateArray" => "array[current_date]".to_owned(),
            "TimestamptzArray" => "array[now()]".to_owned(),
            other => panic!("give a sample for parameters of type {other}, as of ${number} in: {}", self.name()),
        }
    }

    async fn reads(&self, database: &mut PgConnection, literals: &str) -> Reads {
        let name = self.name();
        let prepare = AssertSqlSafe(format!("prepare statement as {}", self.text));
        sqlx::raw_sql(prepare).execute(&mut *database).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let explain = AssertSqlSafe(format!("explain (format json) execute statement {literals}"));
        let plan: sqlx::Result<Value> = sqlx::query_scalar(explain).fetch_one(&mut *database).await;
        let plan = plan.unwrap_or_else(|error| panic!("{name} with {literals}: {error}"));
        sqlx::raw_sql("deallocate statement").execute(&mut *database).await.expect("deallocates the statement");
        let mut reads = Reads::default();
        reads.note(&plan[0]["Plan"]);
        reads
    }
}

fn quoted(id: &str) -> String {
    format!("'{id}'")
}

/// Ids of existing rows, and the bounds of a range.
struct Samples {
    customer: String,
    source: String,
    destination: String,
    event: String,
    from: String,
    until: String,
}

impl Samples {
    async fn read(database: &mut PgConnection) -> Self {
        let mut ids = Vec::new();
        for what in [
            "(select id from customers)",
            "(select id from sources limit 1)",
            "(select id from destinations limit 1)",
            "(select id from events order by id desc limit 1)",
            "sample_id(now() - interval '1 day', 0)",
            "sample_id(now() + interval '1 day', 0)",
        ] {
            let statement = AssertSqlSafe(format!("select {what}::text"));
            ids.push(sqlx::query_scalar(statement).fetch_one(&mut *database).await.expect("an id"));
        }
        let [customer, source, destination, event, from, until] = ids.try_into().expect("one id per expression");
        Self { customer, source, destination, event, from, until }
    }
}

/// The reason for which a list exempts a statement, if it does.
fn allowed<'a>(list: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    list.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, reason)| *reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_whole_growing_table_or_more_days_than_it_needs() {
    let database = Database::create().await.expect("starts");
    let mut database = database.connect().await.expect("connects");
    sqlx::raw_sql(include_str!("explain/history.sql")).execute(&mut database).await.expect("fills the tables");
    sqlx::raw_sql("set plan_cache_mode = force_custom_plan").execute(&mut database).await.expect("sets");
    let samples = Samples::read(&mut database).await;
    let statements = Statement::all();
    assert!(statements.len() > 80, "{} statements", statements.len());

    let mut wrong = Vec::new();
    for statement in &statements {
        let name = statement.name();
        let optional = (1..=statement.parameters.len()).any(|number| statement.is_optional(number));
        for left_out in [false, true].into_iter().take(if optional { 2 } else { 1 }) {
            let literals = statement.literals(&samples, left_out);
            let reads = statement.reads(&mut database, &literals).await;
            if !reads.scanned.is_empty() && allowed(&MAY_SCAN, &name).is_none() {
                wrong.push(format!("reads all of {:?}: {name} with {literals}", reads.scanned));
            }
            let many: Vec<&str> =
                reads.days.iter().filter(|(_, days)| days.len() > FEW_DAYS).map(|(table, _)| table.as_str()).collect();
            if !many.is_empty() && allowed(EVERY_DAY, &name).is_none() {
                wrong.push(format!("plans for every day of {many:?}: {name} with {literals}"));
            }
        }
        for (limits, sorts) in [(RANGE_LIMITS.as_slice(), 0), (RANGE_LIMITS_OF_SEVERAL.as_slice(), 1)] {
            if limits.iter().any(|beginning| name.starts_with(beginning)) {
                for literals in statement.literals_of_searches(&samples) {
                    let reads = statement.reads(&mut database, &literals).await;
                    if reads.sorts > sorts || !reads.scanned.is_empty() {
                        wrong.push(format!("does not stop after its rows: {name} with {literals}"));
                    }
                }
            }
        }
        if IN_A_RANGE.iter().any(|beginning| name.starts_with(beginning)) {
            assert!(allowed(EVERY_DAY, &name).is_none(), "{name}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Every exemption must match a statement: an obsolete one would hide the next mistake.
    for (beginning, reason) in MAY_SCAN.iter().chain(EVERY_DAY) {
        let found = statements.iter().any(|statement| statement.name().starts_with(beginning));
        assert!(found, "no statement begins with {beginning:?} ({reason})");
    }
    for beginning in RANGE_LIMITS.iter().chain(&RANGE_LIMITS_OF_SEVERAL).chain(&IN_A_RANGE) {
        let found = statements.iter().any(|statement| statement.name().starts_with(beginning));
        assert!(found, "no statement begins with {beginning:?}");
    }
}
