"""Solvers: frozen hyper-parameters with one pure step each, by class or by registry name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invsolve.core.lazy import names_of
from invsolve.core.registry import Registry

if TYPE_CHECKING:
    from invsolve.solvers.calibrated import CalibratedGuidance
    from invsolve.solvers.cpigdm import CPiGDM
    from invsolve.solvers.ctdtm import CTDTM
    from invsolve.solvers.daps import DAPS
    from invsolve.solvers.ddim import DDIM
    from invsolve.solvers.ddnm import DDNM
    from invsolve.solvers.ddrm import DDRM
    from invsolve.solvers.diffpir import DiffPIR
    from invsolve.solvers.dmplug import DMPlug
    from invsolve.solvers.dps import DPS
    from invsolve.solvers.freedom import FreeDoM
    from invsolve.solvers.ftm import FTM
    from invsolve.solvers.guidance import Guidance
    from invsolve.solvers.lgdmc import LGDMC
    from invsolve.solvers.mmps import MMPS
    from invsolve.solvers.mpgd import MPGD
    from invsolve.solvers.ndtm import NDTM
    from invsolve.solvers.pigdm import PiGDM
    from invsolve.solvers.pnpdm import PnPDM
    from invsolve.solvers.pnphqs import PnPHQS
    from invsolve.solvers.reddiff import REDdiff
    from invsolve.solvers.scg import SCG
    from invsolve.solvers.steps.scales import (
        SCALES,
        AdaptiveScale,
        ClippedScale,
        FixedScale,
        ScaleRule,
        SoftScale,
        ThresholdScale,
    )
    from invsolve.solvers.tds import TDS
    from invsolve.solvers.tmpd import TMPD

__all__ = [
    "CTDTM",
    "DAPS",
    "DDIM",
    "DDNM",
    "DDRM",
    "DPS",
    "FTM",
    "LGDMC",
    "MMPS",
    "MPGD",
    "NDTM",
    "SCALES",
    "SCG",
    "SOLVERS",
    "TDS",
    "TMPD",
    "AdaptiveScale",
    "CPiGDM",
    "CalibratedGuidance",
    "ClippedScale",
    "DMPlug",
    "DiffPIR",
    "FixedScale",
    "FreeDoM",
    "Guidance",
    "PiGDM",
    "PnPDM",
    "PnPHQS",
    "REDdiff",
    "ScaleRule",
    "SoftScale",
    "ThresholdScale",
]

SOLVERS = Registry(
    "solver",
    {
        "c-pigdm": "invsolve.solvers.cpigdm:CPiGDM",
        "calibrated": "invsolve.solvers.calibrated:CalibratedGuidance",
        "ct-dtm": "invsolve.solvers.ctdtm:CTDTM",
        "daps": "invsolve.solvers.daps:DAPS",
        "ddim": "invsolve.solvers.ddim:DDIM",
        "ddnm": "invsolve.solvers.ddnm:DDNM",
        "ddrm": "invsolve.solvers.ddrm:DDRM",
        "diffpir": "invsolve.solvers.diffpir:DiffPIR",
        "dmplug": "invsolve.solvers.dmplug:DMPlug",
        "dps": "invsolve.solvers.dps:DPS",
        "freedom": "invsolve.solvers.freedom:FreeDoM",
        "ftm": "invsolve.solvers.ftm:FTM",
        "guidance": "invsolve.solvers.guidance:Guidance",
        "lgd-mc": "invsolve.solvers.lgdmc:LGDMC",
        "mmps": "invsolve.solvers.mmps:MMPS",
        "mpgd": "invsolve.solvers.mpgd:MPGD",
        "ndtm": "invsolve.solvers.ndtm:NDTM",
        "pigdm": "invsolve.solvers.pigdm:PiGDM",
        "pnp-dm": "invsolve.solvers.pnpdm:PnPDM",
        "pnp-hqs": "invsolve.solvers.pnphqs:PnPHQS",
        "red-diff": "invsolve.solvers.reddiff:REDdiff",
        "scg": "invsolve.solvers.scg:SCG",
        "tds": "invsolve.solvers.tds:TDS",
        "tmpd": "invsolve.solvers.tmpd:TMPD",
    },
    "invsolve.core.solver:Solver",
)

_ENTRIES = {entry.partition(":")[2]: entry.partition(":")[0] for entry in SOLVERS.builtin.values()}
_SCALES = "invsolve.solvers.steps.scales"
__getattr__ = names_of(__name__, {name: _ENTRIES.get(name, _SCALES) for name in __all__ if name != "SOLVERS"})
