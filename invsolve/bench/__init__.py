"""The leaderboard: suites of restorations that can be run, stopped, resumed, spread over machines, and believed.

    suite = load_suite("quick")
    with Store.writing(folder) as store:              # a folder; survives kill -9
        run(suite, store, Workers(execute, 2))
        score(store)
    write_report(folder)

One image, task, solver, setting, prior and seed is one *unit*, named by the hash of all that decides its outcome. Its
measurement is drawn once and shared by all solvers. Failures are rows: never scored, never left out.
"""
