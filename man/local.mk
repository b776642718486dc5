dist_man_MANS += man/division-config.5 man/division-results.5
