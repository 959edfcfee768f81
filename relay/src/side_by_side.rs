//! Awaits several futures that borrow their data, in one task.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Runs all futures concurrently and returns their outputs in order. Each wake polls every unfinished future, so it is
/// meant for a few hundred at most.
pub async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (future, output) in running.iter_mut().zip(&mut outputs) {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *output = Some(value),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_later_future_proceeds_while_an_earlier_one_waits_for_it() {
        let (sender, receiver) = oneshot::channel();
        let waits = async move { receiver.await.expect("the value is sent") };
        let tells = async move {
            sender.send(1).expect("the value is awaited");
            2
        };
        let both: [Pin<Box<dyn Future<Output = i32>>>; 2] = [Box::pin(waits), Box::pin(tells)];
        assert_eq!(all(both).await, [1, 2]);
        assert_eq!(all(Vec::<std::future::Ready<i32>>::new()).await, Vec::<i32>::new());
    }
}
