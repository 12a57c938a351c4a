from datetime import UTC, datetime, timedelta

import pytest

from services.user.sessions import IDLE_MAX, LIFE_MAX, Ending, InvalidRefreshToken, RefreshToken, Session

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
SESSION = Session.begin(session_id="s1", user_id="u1", at=AT)


def test_a_session_lives_as_long_as_it_is_refreshed_in_time() -> None:
    almost = AT + IDLE_MAX - timedelta(microseconds=1)
    assert SESSION.refresh(at=almost).expires_at == almost + IDLE_MAX
    with pytest.raises(InvalidRefreshToken):
        SESSION.refresh(at=AT + IDLE_MAX)


def test_no_session_outlives_its_life_however_often_it_is_refreshed() -> None:
    session, now = SESSION, AT
    while now + timedelta(days=7) < AT + LIFE_MAX:
        now += timedelta(days=7)
        session = session.refresh(at=now)
    assert session.expires_at == AT + LIFE_MAX
    with pytest.raises(InvalidRefreshToken):
        session.refresh(at=AT + LIFE_MAX)


@pytest.mark.parametrize("ending", list(Ending))
def test_a_session_that_has_ended_is_not_refreshed(ending: Ending) -> None:
    ended = SESSION.end(ending, at=AT)
    assert (ended.ended_at, ended.ending) == (AT, ending)
    with pytest.raises(InvalidRefreshToken):
        ended.refresh(at=AT)


def test_a_refresh_token_lives_as_long_as_the_session_would_without_another() -> None:
    assert RefreshToken.of(SESSION, b"hash") == RefreshToken(b"hash", "s1", AT + IDLE_MAX)


def test_what_identifies_a_token_is_not_shown() -> None:
    assert "hash" not in repr(RefreshToken.of(SESSION, b"hash"))
