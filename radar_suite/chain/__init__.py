"""What a shell calls: profiles, the order of the notebooks, the ledger, the runner, the report and the doctor."""
