"""Where llama.cpp computes: on a graphics card where its build knows one, else the processor."""

from __future__ import annotations

from typing import Any

import pytest
import xllamacpp

from sonia.router.backends.llama import graphics_card, place


def device(kind: str, description: str) -> dict[str, Any]:
    """As `get_device_info` tells of one."""
    of = xllamacpp.ggml_backend_dev_type[f"GGML_BACKEND_DEVICE_TYPE_{kind}"]
    return {"name": f"{kind}0", "description": description, "type": of}


CPU = device("CPU", "AMD EPYC")


def test_the_engine_here_tells_its_devices_as_expected() -> None:
    devices = xllamacpp.get_device_info()

    assert "CPU" in {one["type"].name.rsplit("_", 1)[-1] for one in devices}
    assert all({"name", "description", "type"} <= set(one) for one in devices)


@pytest.mark.parametrize(
    ("devices", "card"),
    [
        ([CPU], None),
        ([], None),
        ([device("ACCEL", "BLAS"), CPU], None),
        ([device("IGPU", "Intel UHD"), CPU], "Intel UHD"),
        ([device("IGPU", "Radeon 780M"), device("GPU", "RTX 4090"), CPU], "RTX 4090"),
        ([device("GPU", "")], "GPU0"),
    ],
)
def test_the_card_is_the_one_that_the_engine_takes(
    devices: list[dict[str, Any]], card: str | None
) -> None:
    assert graphics_card(devices) == card


def test_without_a_card_nothing_is_sent_to_one_even_where_there_is_one() -> None:
    params = xllamacpp.CommonParams()

    place(params, on_card=False)

    assert params.n_gpu_layers == 0
    assert params.no_kv_offload
    assert params.no_op_offload
    assert not params.fit_params


def test_on_a_card_as_many_layers_as_fit_are_there() -> None:
    params = xllamacpp.CommonParams()

    place(params, on_card=True)

    assert params.n_gpu_layers < 0
    assert params.fit_params
