"""The order over hosts, and the memory for reading many files, at a size that takes a second."""

import json

import numpy as np
import pytest

from stii_jax.data import DataError, open_dataset
from stii_jax.data.pipeline import simulate as simulation


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    options = simulation.build(folder, num_shards=6, num_videos=96)
    return open_dataset("bouncing_balls", "color4", options, str(folder))


def test_every_split_lies_in_as_many_files_as_asked_for(source):
    assert [info.shard_lengths for info in source.builder.info.splits.values()] == [[16] * 6, [1] * 6, [1] * 6]


def test_hosts_share_the_order_of_one(source):
    figures = simulation.check_hosts(source, hosts=(2, 8), batch_size=8)
    assert figures["every_record_once_a_pass"] and figures["2_hosts_as_one"] and figures["8_hosts_as_one"]
    assert 0.2 < figures["mean_distance"] < 0.45 and 0.5 < figures["same_file"] < 1.5


def test_an_order_that_hosts_do_not_share_is_found(source, monkeypatch):
    def read_order(numbers, batch_size, num_steps, num_hosts):
        return np.zeros(batch_size * num_steps, int) if num_hosts == 2 else np.arange(batch_size * num_steps) % 96

    monkeypatch.setattr(simulation, "read_order", read_order)
    figures = simulation.check_hosts(source, hosts=(1, 2), batch_size=8)
    assert figures["every_record_once_a_pass"] and figures["1_hosts_as_one"] and not figures["2_hosts_as_one"]
    assert figures["correlation_with_stored"] == pytest.approx(1) and figures["mean_distance"] == 0
    assert figures["correlation_of_neighbours"] == pytest.approx(1)
    # Batches of 32 come from two whole files; of all pairs, 15 in 95 lie in one file.
    assert figures["same_file"] == pytest.approx((15 / 31) / (15 / 95))


def test_every_file_is_opened_once_and_closed_again(source, monkeypatch):
    monkeypatch.setattr(simulation, "_THREADS", (1,))
    figures = simulation.measure_reading(source, seconds=0.01)
    assert figures["handles_read"] == 6 and figures["handles_closed"] == 0


def test_a_hundred_million_records_take_no_time_to_start(source):
    figures = simulation.many_records(source, seconds=0.01, num_batches=10)
    assert figures["first_batch_ms_at_step_10000000"] < 2_000
    assert figures["megabytes_at_step_0"] < 50  # of 800 MB if the order were stored


def test_the_command_line(capsys, monkeypatch):
    monkeypatch.setattr(
        simulation, "simulate", lambda folder, *given: {"given": given, "empty": not any(folder.iterdir())}
    )
    simulation.main(["--shards", "3", "--videos", "9", "--hosts", "2", "--seconds", "0.5", "--json"])
    assert json.loads(capsys.readouterr().out) == {"given": [3, 9, [2], 0.5], "empty": True}


def test_more_files_than_videos(tmp_path):
    with pytest.raises(DataError, match="--shards=10: give 1 to the number of videos, 9"):
        simulation.build(tmp_path, 10, 9)
