from dataclasses import replace
from pathlib import Path

import pytest

from services.cli import endpoints
from services.cli.data_folder import (
    PROVIDER,
    SERVICES,
    DataFolder,
    sqlite_url,
    without_password,
    write_whole,
)
from services.cli.endpoints import Endpoints, ServiceEndpoint
from services.cli.refusal import Refused


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "shop")
    made.create()
    return made


def shop_at(folder: DataFolder) -> Endpoints:
    service = ServiceEndpoint(grpc="127.0.0.1:1", http="127.0.0.1:2", pid=3, database="/x.db")
    made = Endpoints("http://127.0.0.1:4", "nats://127.0.0.1:5", dict.fromkeys(SERVICES, service))
    made.write(folder.endpoints)
    return made


def test_only_its_owner_can_look_into_the_folder(folder: DataFolder) -> None:
    assert [path.stat().st_mode & 0o777 for path in (folder.path, folder.secrets)] == [0o700, 0o700]


def test_every_service_has_secrets_of_its_own_that_only_its_owner_can_read(folder: DataFolder) -> None:
    files = list(folder.secrets.iterdir())
    assert len({file.read_text() for file in files}) == len(files) > len(SERVICES)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_secrets_stay_the_same_when_the_shop_is_started_again(folder: DataFolder) -> None:
    before = {file.name: file.read_text() for file in folder.secrets.iterdir()}
    folder.create()
    assert {file.name: file.read_text() for file in folder.secrets.iterdir()} == before


def test_a_file_in_place_of_the_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Refused, match="cannot be the data folder") as refused:
            DataFolder(path).create()
        assert "\n" not in str(refused.value)


def test_a_folder_is_run_by_one_shop_at_a_time(folder: DataFolder) -> None:
    with folder.locked(), pytest.raises(Refused, match="already running"), folder.locked():
        pass
    with folder.locked():
        pass


def test_readers_can_tell_whether_the_folder_is_in_use(folder: DataFolder) -> None:
    with folder.locked():
        assert folder.is_in_use
    assert not folder.is_in_use


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"long content")
    write_whole(path, b"short")
    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]


def test_endpoints_come_back_as_they_were_written(folder: DataFolder) -> None:
    with folder.locked():
        assert shop_at(folder) == endpoints.read(folder)


def test_endpoints_name_every_replica(folder: DataFolder) -> None:
    shop, first = shop_at(folder), ServiceEndpoint("127.0.0.1:1", "127.0.0.1:2", 3, "postgresql://x/y")
    replicas = {"order-1": first, "order-2": replace(first, pid=4)}
    made = replace(shop, services={**shop.services, "order": replace(first, replicas=replicas)})
    made.write(folder.endpoints)
    with folder.locked():
        assert endpoints.read(folder) == made
    assert [*made.programs] == ["user", "inventory", "order-1", "order-2", "payment", "notification"]
    assert made.programs["order-2"].pid == 4


def test_only_payment_has_a_providers_database(folder: DataFolder) -> None:
    shop_at(folder)
    assert b"provider_database" not in folder.endpoints.read_bytes()


def test_endpoints_of_a_shop_that_was_killed_are_not_believed(folder: DataFolder) -> None:
    with folder.locked():
        shop_at(folder)
    with pytest.raises(Refused, match="no shop is running"):
        endpoints.read(folder)


def test_where_there_is_no_folder_no_shop_is_running(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no shop is running"):
        endpoints.read(DataFolder(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"gateway": "x", "nats": "y", "services": {"order": {}}}']
)
def test_a_file_that_up_did_not_write_is_refused(folder: DataFolder, content: str) -> None:
    folder.endpoints.write_text(content)
    with folder.locked(), pytest.raises(Refused, match="is not what"):
        endpoints.read(folder)


def test_a_database_is_addressed_by_its_file_or_by_its_address() -> None:
    assert sqlite_url("/a/b.db") == "sqlite:////a/b.db"
    assert sqlite_url("postgresql://host/b") == "postgresql://host/b"


def test_a_folder_remembers_the_server_that_has_its_databases(tmp_path: Path) -> None:
    DataFolder(tmp_path).keep_on("postgresql://ada:secret@db:5432")
    folder = DataFolder(tmp_path)
    assert folder.address("order") == "postgresql://ada:secret@db:5432/bodega_order"
    assert folder.address(PROVIDER) == "postgresql://ada:secret@db:5432/bodega_sandbox_provider"
    assert (tmp_path / "server").stat().st_mode & 0o777 == 0o600
    folder.keep_on("postgresql://ada:secret@db:5432")


def test_databases_do_not_move_from_files_to_a_server_nor_between_servers(tmp_path: Path) -> None:
    files, served = DataFolder(tmp_path / "files"), DataFolder(tmp_path / "served")
    files.create()
    files.databases["order"].touch()
    served.create()
    served.keep_on("postgresql://one")
    for folder in (files, served):
        with pytest.raises(Refused, match="elsewhere"):
            folder.keep_on("postgresql://two")
    with pytest.raises(Refused, match="postgresql://USER"):
        files.keep_on("mysql://db")


def test_without_a_server_databases_are_files(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert folder.address("order") == str(folder.databases["order"])
    assert folder.address(PROVIDER) == str(folder.provider_database)


def test_addresses_are_shown_without_their_password() -> None:
    assert without_password("postgresql://ada:se@cret@db/x") == "postgresql://ada@db/x"
    assert without_password("postgresql://ada:secret@db/x") == "postgresql://ada@db/x"
    assert without_password("postgresql://ada@db:5432/x") == "postgresql://ada@db:5432/x"
    assert without_password("/a/b.db") == "/a/b.db"
