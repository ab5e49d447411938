"""Reports: rows of one snapshot of the database, built by a worker into a file that is then downloaded.

    service.py    asking for a report, and the place a report's status changes
    rows.py       the rows of each kind of report
    snapshot.py   the one state of the database that a report is read from
    formats/      how rows become a CSV, JSON, XLSX or PDF document
    files.py      where documents are kept
    build.py      all of these put together
    downloads.py  what a finished report is downloaded as

workers/reports.py is the job, api/routes/reports.py the routes.
"""
