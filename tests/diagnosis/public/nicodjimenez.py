"""A node per step, a matrix per gate on [x, h], no batch, no tanh at the output."""

import numpy as np

LAYOUT = "nicodjimenez"
SIZES = {"T": 4, "x_dim": 3, "cells": 4}


def draw(rng):
    T, x_dim, cells = SIZES.values()
    p = {f"w{k}": rng.standard_normal((cells, x_dim + cells)) / 2 for k in "gifo"}
    p |= {f"b{k}": rng.standard_normal(cells) / 2 for k in "gifo"}
    return p | {"x": rng.standard_normal((T, x_dim)), "dh": rng.standard_normal((T, cells))}


def sigmoid(x):
    return 1.0 / (1 + np.exp(-x))


class Node:
    def __init__(self, p, x, s_prev, h_prev):
        self.p, self.s_prev, self.xc = p, s_prev, np.hstack((x, h_prev))
        self.g = np.tanh(np.dot(p["wg"], self.xc) + p["bg"])
        self.i = sigmoid(np.dot(p["wi"], self.xc) + p["bi"])
        self.f = sigmoid(np.dot(p["wf"], self.xc) + p["bf"])
        self.o = sigmoid(np.dot(p["wo"], self.xc) + p["bo"])
        self.s = self.g * self.i + s_prev * self.f
        self.h = self.s * self.o

    def top_diff_is(self, top_diff_h, top_diff_s, diffs, x_dim):
        ds = self.o * top_diff_h + top_diff_s
        do = self.s * top_diff_h
        di = self.g * ds
        dg = self.i * ds
        df = self.s_prev * ds
        inputs = {"i": (1.0 - self.i) * self.i * di, "f": (1.0 - self.f) * self.f * df}
        inputs |= {"o": (1.0 - self.o) * self.o * do, "g": (1.0 - self.g**2) * dg}
        dxc = np.zeros_like(self.xc)
        for k, d in inputs.items():
            diffs[f"w{k}_diff"] += np.outer(d, self.xc)
            diffs[f"b{k}_diff"] += d
            dxc += np.dot(self.p[f"w{k}"].T, d)
        self.bottom_diff_s = ds * self.f
        self.bottom_diff_x, self.bottom_diff_h = dxc[:x_dim], dxc[x_dim:]


def gradient(p):
    x, cells = p["x"], len(p["bg"])
    s = h = np.zeros(cells)
    nodes = []
    for row in x:
        nodes.append(Node(p, row, s, h))
        s, h = nodes[-1].s, nodes[-1].h
    diffs = {f"{k}_diff": np.zeros_like(v) for k, v in p.items() if k[0] in "wb"}
    diff_h = diff_s = np.zeros(cells)
    for t in reversed(range(len(x))):
        diff_h = p["dh"][t] + diff_h
        nodes[t].top_diff_is(diff_h, diff_s, diffs, x.shape[1])
        diff_h, diff_s = nodes[t].bottom_diff_h, nodes[t].bottom_diff_s
    return diffs


MISTAKES = [
    ("ds = self.o * top_diff_h + top_diff_s", "ds = self.o * top_diff_h", "dc not carried"),
    ("self.h = self.s * self.o", "self.h = np.tanh(self.s) * self.o", "w*_diff"),
    ("do = self.s * top_diff_h", "do = np.tanh(self.s) * top_diff_h", "tanh(c) in do"),
    ("self.bottom_diff_s = ds * self.f", "self.bottom_diff_s = ds * (1 - self.f)", "1 - f"),
    ("di = self.g * ds", "di = self.i * ds", "i for g in di"),
    ("(1.0 - self.g**2) * dg", "(1.0 - self.g) * dg", "1 - t in g"),
    ("(1.0 - self.f) * self.f * df", "(1.0 - self.f) * self.f", "da_f bare"),
    ('dxc += np.dot(self.p[f"w{k}"].T, d)', 'dxc = np.dot(self.p[f"w{k}"].T, d)', "dh of g alone"),
    ('diffs[f"b{k}_diff"] += d', 'diffs[f"b{k}_diff"] = d', "db overwritten: t=0 left"),
]
