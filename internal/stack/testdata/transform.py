"""Prints what CloudFormation makes of a SAM template, as JSON: transform.py < TEMPLATE.

The region comes from AWS_DEFAULT_REGION.
"""

import json
import sys

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoManagedPolicies:
    """The template names no managed policy of AWS, so none has to be looked up."""

    def load(self):
        return {}


template = yaml_parse(sys.stdin.buffer.read().decode("utf-8"))
# The code is uploaded before a deployment; the transform wants to see where to.
template["Globals"]["Function"]["CodeUri"] = "s3://artifacts/code.zip"
json.dump(transform(template, {}, NoManagedPolicies()), sys.stdout)
