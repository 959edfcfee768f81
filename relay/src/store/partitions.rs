//! The day partitions of history.

use sqlx::PgPool;
use time::Date;

/// Makes the partitions of one day where they are not there yet.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn create_day(pool: &PgPool, day: Date) -> Result<(), sqlx::Error> {
    sqlx::query!("select create_day($1)", day).execute(pool).await?;
    Ok(())
}
