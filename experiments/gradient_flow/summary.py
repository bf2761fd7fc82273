"""How far back each network feels anything, for people."""

from experiments.kit.report import clock

VANISHED = 1e-3


def reach(network, field):
    """Steps back over which a Jacobian's norm stays above VANISHED; None where it has no field."""
    if field not in network["jacobian"]:
        return None
    T = network["at"][-1] + 1
    gone = [
        t
        for t, norm in zip(network["at"], network["jacobian"][field]["mean"], strict=True)
        if norm <= VANISHED
    ]
    return T - 2 - max(gone) if gone else T - 1


def table(found):
    """How far back each network's last step feels anything."""
    lines = [f"Steps back over which the norm stays above {VANISHED:g}, geometric mean of examples"]
    for situation in found["situations"]:
        T = situation["networks"][0]["at"][-1]
        lines.append(f"{situation['name'] + f' (of {T})':36}  ∂h_T/∂h_t  ∂c_T/∂c_t")
        for network in situation["networks"]:
            h, c = (reach(network, field) for field in "hc")
            lines.append(f"  {network['name']:34}{h:11}{'' if c is None else c:>11}")
    return "\n".join([*lines, f"all of it took {clock(found['seconds'])} minutes"])
