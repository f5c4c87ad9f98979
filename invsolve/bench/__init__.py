"""The benchmark: suites of restorations that can be run, interrupted, resumed, distributed and verified.

    suite = load_suite("quick")
    with Store.writing(folder) as store:              # a folder; survives kill -9
        run(suite, store, Workers(execute, 2))
        score(store)
    write_report(folder)

One image, task, solver, setting, prior and seed is one *unit*. Its name is the hash of everything that determines its
outcome. Its measurement is drawn once and shared by all solvers. Failures are rows: never scored, never left out.
"""
