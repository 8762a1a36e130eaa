"""The HTML report: one file that opens offline, made of the same values as every other report.

    values -> pictures (plain data, one module a picture) -> `document` (jinja2 -> HTML)  -> page.js draws them in a browser
                                                          -> `static` (SVG, PNG)          -> the same figures.js without one

A picture's data hold no option of a chart library: ``assets/figures.js`` alone knows how each is drawn, on the screen and on paper.
"""
