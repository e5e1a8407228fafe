"""Deploys a CloudFormation template to an emulator and prints what is there afterwards.

Reads {"endpoint", "region", "name", "template"} from standard input. Prints the stack's
resources, and its roles and policies as IAM itself returns them.
"""

import ast
import json
import sys

import boto3

order = json.load(sys.stdin)
client = lambda service: boto3.client(
    service,
    endpoint_url=order["endpoint"],
    region_name=order["region"],
    aws_access_key_id="deployer",
    aws_secret_access_key="deployer",
)
cloudformation, iam = client("cloudformation"), client("iam")

cloudformation.create_stack(
    StackName=order["name"], TemplateBody=json.dumps(order["template"]), Capabilities=["CAPABILITY_IAM"]
)
status = cloudformation.describe_stacks(StackName=order["name"])["Stacks"][0]["StackStatus"]


def inline(role, name):
    document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    # The emulator writes those of a template as Python does.
    return ast.literal_eval(document) if isinstance(document, str) else document


def policy(arn):
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


resources, roles, policies = {}, {}, {}
for r in cloudformation.describe_stack_resources(StackName=order["name"])["StackResources"]:
    logical, physical = r["LogicalResourceId"], r["PhysicalResourceId"]
    resources[logical] = {"type": r["ResourceType"], "id": physical}
    if r["ResourceType"] == "AWS::IAM::Role":
        role = iam.get_role(RoleName=physical)["Role"]
        roles[logical] = {
            "trust": role["AssumeRolePolicyDocument"],
            "inline": {
                name: inline(physical, name) for name in iam.list_role_policies(RoleName=physical)["PolicyNames"]
            },
        }
    if r["ResourceType"] == "AWS::IAM::ManagedPolicy":
        policies[logical] = {"arn": physical, "document": policy(physical)}

json.dump({"status": status, "resources": resources, "roles": roles, "policies": policies}, sys.stdout)
