"""What every page of the operator console shares: who may do what, lists that stay fast, forms that call services.

An app's `admin.py` says what is shown and which service a button calls; everything else is here, so that no admin
can forget the application scope. `access` has the rights, `lists` the paginator and the filters, `actions` the
buttons, `forms` the fields, `panels` what stands beside a form, `base` puts them together, `site` is what stands
around the pages, `apps` makes Django take it. Nothing is imported here: Django imports `apps` before any model.
"""
