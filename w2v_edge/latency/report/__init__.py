"""Reports: their data classes (`records`), files with their schema, and how they are displayed.

records -> files                     JSON and its schema, any format by suffix
`-> wording -> tables -> terminal, markdown
`--> html <- charts, curves <- svg
"""
