"From records to statistics, tables, figures, verdicts and a page."
