from pathlib import Path

import pytest

from tests.deploy.prepared import prepare, prepared


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_was_made_stays_as_it_is(tmp_path: Path, database: str) -> None:
    first = contents(prepared(tmp_path, database))
    assert contents(prepared(tmp_path, database)) == first
    (tmp_path / "secrets" / "bodega_user__signing_key_secret").unlink()
    second = contents(prepared(tmp_path, database))
    assert {name for name in first if first[name] != second[name]} == {"bodega_user__signing_key_secret"}


def test_no_two_secrets_are_alike_and_each_is_long(tmp_path: Path) -> None:
    made = contents(prepared(tmp_path, "postgresql"))
    assert len(set(made.values())) == len(made)
    assert min(map(len, made.values())) >= 32


def test_containers_read_the_files_and_others_on_the_machine_cannot(tmp_path: Path) -> None:
    secrets = prepared(tmp_path, "sqlite")
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in secrets.iterdir()} == {0o444}


def test_postgresql_is_reached_by_verified_tls_alone(tmp_path: Path) -> None:
    made = contents(prepared(tmp_path, "postgresql"))
    addresses = {name: text for name, text in made.items() if name.endswith("database_url")}
    assert len(addresses) == 6
    for address in addresses.values():
        assert "@postgres.bodega/" in address
        assert "sslmode=verify-full" in address
    assert made["postgres_order_password"] in addresses["bodega_order__database_url"]
    assert "COMPOSE_PROFILES=postgresql\n" in (tmp_path / ".env").read_text()


def test_a_shop_does_not_change_its_database_by_accident(tmp_path: Path) -> None:
    secrets = prepared(tmp_path, "sqlite")
    before = contents(secrets)
    refused = prepare(tmp_path, "--database", "postgresql")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "database_url" in refused.stderr
    assert contents(secrets) == before


def test_what_was_added_to_the_environment_stays(tmp_path: Path) -> None:
    prepared(tmp_path, "sqlite")
    environment = tmp_path / ".env"
    added = environment.read_text() + "BODEGA_PROXY=172.18.0.1/32\n"
    environment.write_text(added)
    prepared(tmp_path, "sqlite")
    assert environment.read_text() == added


def test_the_database_is_a_postgresql_unless_one_says_otherwise(tmp_path: Path) -> None:
    assert prepare(tmp_path).returncode == 0
    assert (tmp_path / "secrets" / "bodega_user__database_url").read_text().startswith("postgresql://")
