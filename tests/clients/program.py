"""Uses the API through a client that openapi-python-client generates. Nothing of the client is edited.

usage: python program.py, with the variables RELAY, TOKEN and DESTINATION_URL
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TypeVar

import httpx
from tidegate_client import AuthenticatedClient
from tidegate_client.api.deliveries import (
    deliveries_attempts,
    deliveries_list,
    deliveries_retry,
    deliveries_show,
)
from tidegate_client.api.destinations import destinations_change, destinations_create, destinations_show
from tidegate_client.api.events import events_body, events_list, events_show
from tidegate_client.api.replays import replays_create, replays_show
from tidegate_client.api.routes import routes_create, routes_delete, routes_list
from tidegate_client.api.sources import sources_create, sources_list
from tidegate_client.models import (
    Change,
    ChangeKind,
    Delivery,
    DeliveryState,
    DestinationPatch,
    Event,
    NewDestination,
    NewReplay,
    NewRoute,
    NewSource,
    Period,
    Problem,
    ProviderId,
    RateLimitPatch,
    RateLimitPatchPer,
    Replay,
    ReplayFilter,
    ReplayState,
    RetrySchedule,
    SourceConfig,
    SourceConfigOnFailure,
    Verification,
)
from tidegate_client.types import UNSET, Response

NAME = "python"
EVENTS = 5
SOON_S = 60

T = TypeVar("T")


def client(token: str) -> AuthenticatedClient:
    # A status that the description does not name is an error.
    return AuthenticatedClient(base_url=os.environ["RELAY"], token=token, raise_on_unexpected_status=True)


api = client(os.environ["TOKEN"])


def ok(result: T | Problem | None) -> T:
    """The result of a call that has succeeded."""
    assert result is not None and not isinstance(result, Problem), result
    return result


def until(what: str, ask: Callable[[], T | None]) -> T:
    """Asks until the answer is not None."""
    end = time.monotonic() + SOON_S
    while time.monotonic() < end:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(0.05)
    raise TimeoutError(f"waited too long for {what}")


def create() -> str:
    """Creates the source, the destination and the route, and returns where the source receives."""
    config = SourceConfig(on_failure=SourceConfigOnFailure.REJECT)
    config["header"] = "x-token"
    new = NewSource(name=NAME, provider=ProviderId.TOKEN, secrets=["a-token"], config=config)
    source = ok(sources_create.sync(client=api, body=new))
    retry = RetrySchedule(schedule_s=[0])
    wanted = NewDestination(name=NAME, url=os.environ["DESTINATION_URL"], retry=retry)
    destination = ok(destinations_create.sync(client=api, body=wanted))
    route = ok(routes_create.sync(client=api, body=NewRoute(source=source.id, destination=destination.id)))
    assert route.enabled
    return source.ingest_url


def send(ingest_url: str, number: int) -> str:
    """Sends an event as its provider does, and returns its id."""
    response = httpx.post(ingest_url, headers={"x-token": "a-token"}, json={"number": number})
    assert response.status_code == 200, response.text
    return response.json()["id"]


def all_events() -> tuple[list[Event], int]:
    """All events of the source, from pages of two, and the number of pages."""
    events, pages, cursor = [], 0, UNSET
    while True:
        page = ok(events_list.sync(client=api, source=NAME, limit=2, cursor=cursor))
        events.extend(page.data)
        pages += 1
        if page.next_cursor is None:
            return events, pages
        cursor = page.next_cursor


def deliveries(state: DeliveryState) -> list[Delivery]:
    return ok(deliveries_list.sync(client=api, destination=NAME, limit=100, state=state)).data


def follow(after: str | None = None) -> Iterator[tuple[str, Change | None]]:
    """Follows the stream of stored events: the positions, each with its change if it has one.

    The generated function for this call would wait for the end of the response. The client's own HTTP client reads it
    line by line.
    """
    query = {"source": NAME, "kind": ChangeKind.EVENT_STORED.value} | ({"after": after} if after else {})
    timeout = httpx.Timeout(10, read=SOON_S)
    with api.get_httpx_client().stream("GET", "/v1/stream", params=query, timeout=timeout) as response:
        assert response.status_code == 200, response.read()
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            else:
                data = fields.get("data")
                yield fields["id"], Change.from_dict(json.loads(data)) if data else None
                fields = {}


def stream(ingest_url: str) -> list[str]:
    """Sends the events while a stream is followed, and follows it again from the middle."""
    sent, received = [], []
    for position, change in follow():
        if not sent:
            # The first position says that the stream has begun.
            sent = [send(ingest_url, number) for number in range(EVENTS)]
        if change is not None:
            assert change.event
            received.append((position, change.event.id))
        if len(received) == EVENTS:
            break
    assert {event for _, event in received} == set(sent), received
    again = []
    for position, change in follow(after=received[2][0]):
        if change is not None:
            assert change.event
            again.append((position, change.event.id))
        if len(again) == EVENTS - 3:
            break
    assert again == received[3:], again
    return sent


def list_all(sent: list[str]) -> None:
    def listed() -> tuple[list[Event], int] | None:
        found = all_events()
        return found if len(found[0]) == EVENTS else None

    events, pages = until("all events", listed)
    assert pages >= 3, pages
    assert {event.id for event in events} == set(sent)
    shown = ok(events_show.sync(sent[0], client=api))
    assert shown.verification == Verification.VERIFIED, shown.verification
    assert shown.received_at.tzinfo is not None
    types = [header.value for header in shown.headers if header.name == "content-type"]
    assert types == ["application/json"], types
    body = ok(events_body.sync(sent[0], client=api)).payload.read()
    assert json.loads(body) == {"number": 0}, body


def retry() -> None:
    """The destination has refused the first delivery."""
    dead = until("a dead delivery", lambda: next(iter(deliveries(DeliveryState.DEAD)), None))
    ok(deliveries_retry.sync(dead.id, client=api))

    def succeeded() -> Delivery | None:
        delivery = ok(deliveries_show.sync(dead.id, client=api))
        return delivery if delivery.state == DeliveryState.SUCCEEDED else None

    until("the delivery to succeed", succeeded)
    attempts = ok(deliveries_attempts.sync(dead.id, client=api)).data
    assert sorted(attempt.status or 0 for attempt in attempts) == [200, 500], attempts


def replay() -> None:
    begun = ok(replays_create.sync(client=api, body=NewReplay(filter_=ReplayFilter(source=NAME))))
    # A dry run would answer with a plan.
    assert isinstance(begun, Replay)

    def completed() -> int | None:
        now = ok(replays_show.sync(begun.id, client=api))
        return now.processed if now.state == ReplayState.COMPLETED else None

    assert until("the replay", completed) == EVENTS

    def replayed() -> list[Delivery] | None:
        found = deliveries(DeliveryState.SUCCEEDED)
        return found if len(found) == 2 * EVENTS else None

    of_replay = [one for one in until("the replayed deliveries", replayed) if one.replay_id == begun.id]
    assert len(of_replay) == EVENTS


def change() -> None:
    limit = RateLimitPatch(limit=100, per=RateLimitPatchPer.SECOND)
    changed = ok(destinations_change.sync(NAME, client=api, body=DestinationPatch(rate_limit=limit)))
    assert changed.rate_limit is not None
    assert (changed.rate_limit.limit, changed.rate_limit.per) == (100, Period.SECOND)
    removed = ok(destinations_change.sync(NAME, client=api, body=DestinationPatch(rate_limit=None)))
    assert removed.rate_limit is None


def problems() -> None:
    """An error is a problem with its type, not just a status."""

    def problem(response: Response[T | Problem], status: HTTPStatus) -> Problem:
        assert response.status_code == status, response
        assert isinstance(response.parsed, Problem), response
        return response.parsed

    missing = destinations_show.sync_detailed("no-such-destination", client=api)
    assert problem(missing, HTTPStatus.NOT_FOUND).code == "not_found"
    wrong = NewRoute(source=NAME, destination=NAME, filter_="event.no_such_field == 1")
    invalid = problem(routes_create.sync_detailed(client=api, body=wrong), HTTPStatus.UNPROCESSABLE_ENTITY)
    assert invalid.type_ == "/problems/validation"
    assert invalid.errors and invalid.errors[0].field == "filter", invalid
    stranger = sources_list.sync_detailed(client=client("tg_wrong"))
    assert problem(stranger, HTTPStatus.UNAUTHORIZED).status == 401


def remove() -> None:
    for route in ok(routes_list.sync(client=api, source=NAME)).data:
        assert routes_delete.sync_detailed(route.id, client=api).status_code == HTTPStatus.NO_CONTENT


ingest_url = create()
list_all(stream(ingest_url))
retry()
replay()
change()
problems()
remove()
print("all calls have succeeded")
