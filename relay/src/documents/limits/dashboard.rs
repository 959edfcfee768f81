//! Limits of the dashboard.

use store::system as stored;

use super::{Bound, bytes, count, fixed, table, time};
use crate::control::names;
use crate::dashboard::{alerts, kept, overview, settings, switcher, system, values};

pub(super) fn write(page: &mut String) {
    table(
        page,
        "Dashboard",
        "Pages call the same rules as the API, so the limits of the API apply to them too: of requests, lists, searches\n\
         and bodies of requests.",
        &bounds(),
    );
}

fn bounds() -> Vec<Bound> {
    vec![
        fixed!(
            "figures of the overview are read",
            format!("every {}", time(overview::FRESH)),
            "many viewers cost no more than one"
        ),
        fixed!(
            "a read for a page that has failed because of the database is not repeated",
            format!("for {}", time(kept::FAILS_FOR)),
            "limits load, and the wait of viewers"
        ),
        fixed!("customers and ranges of which the last figures are kept", count(overview::MOST_KEPT), "limits memory"),
        fixed!("customers of which the last alerts are kept", count(alerts::kept::MOST_KEPT), "limits memory"),
        fixed!(
            "alerts of the navigation are read again, if someone views pages",
            format!("every {}", time(alerts::kept::COUNTED_AGAIN_AFTER)),
            "limits load"
        ),
        fixed!(
            "customers whose alerts are read in the background at one time",
            count(alerts::kept::READ_AT_ONCE),
            "limits load"
        ),
        fixed!("customers that are offered by name", count(names::MOST_CUSTOMERS), "limits the size of pages"),
        fixed!(
            "names of customers are read again, if someone views pages",
            format!("every {}", time(switcher::READ_AGAIN_AFTER)),
            "limits load"
        ),
        fixed!("time that a page waits for names of customers", time(switcher::WITHIN), "a page is shown without them"),
        fixed!(
            "the state of the system is read",
            format!("every {}", time(system::FRESH)),
            "many viewers cost no more than one"
        ),
        fixed!("sizes of tables are read", format!("every {}", time(system::SIZES_FRESH)), "limits load"),
        fixed!(
            "replicas, tables, and sources that are not in step, on the page of the system",
            format!("{}, {}, {}", count(stored::MOST_REPLICAS), count(stored::MOST_TABLES), count(stored::MOST_BEHIND)),
            "limits the size of the page"
        ),
        fixed!(
            "length of a value in the audit log, in characters",
            count(settings::audit::SHOWN),
            "limits the size of the page; the rest is counted"
        ),
        fixed!("values of a page or form", count(values::MAX_VALUES), "limits memory and work"),
        fixed!("form with a pasted request", bytes(values::MAX_PASTED_BYTES), "limits memory"),
    ]
}
