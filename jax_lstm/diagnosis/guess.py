def guess_layout(problem, gradient, cell):
    raise NotImplementedError
