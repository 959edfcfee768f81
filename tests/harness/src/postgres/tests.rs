use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::*;

#[tokio::test]
async fn databases_are_isolated_and_are_dropped_with_their_values() {
    let first = Database::create_empty().await.expect("is created");
    let second = Database::create_empty().await.expect("is created");
    let mut connection = first.connect().await.expect("connects");
    sqlx::query("create table thing (id int)").execute(&mut connection).await.expect("creates");
    let mut other = second.connect().await.expect("connects");
    assert!(sqlx::query("select from thing").execute(&mut other).await.is_err());
    let (name, second_connection) = (first.name().to_owned(), &mut other);
    drop(first);
    let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(second_connection)
        .await
        .expect("the query succeeds");
    assert!(!there, "dropped although a connection was open");
}

#[tokio::test]
async fn a_private_server_keeps_its_data_and_port_across_a_fast_and_an_immediate_stop() {
    let mut server = Server::start_private().await.expect("starts");
    let url = server.url("postgres");
    let run = async |statement: &'static str| {
        let mut connection = PgConnection::connect(&url).await?;
        sqlx::query_scalar::<_, String>(statement).fetch_optional(&mut connection).await
    };
    run("create table thing as select 'first' as name").await.expect("creates");
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        server.stop(how).await.expect("stops");
        assert!(PgConnection::connect(&url).await.is_err(), "{how:?}");
        server.start().await.expect("starts again");
        assert_eq!(run("select name from thing").await.expect("answers").as_deref(), Some("first"), "{how:?}");
    }
    assert_eq!(run("show fsync").await.expect("answers").as_deref(), Some("on"));
}
