dist_man_MANS += man/division-config.5 man/division-results.5
dist_man_MANS += man/division-codec.1
dist_man_MANS += man/division-run.1
dist_man_MANS += man/division-bench.1
