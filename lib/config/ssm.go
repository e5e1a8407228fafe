package config

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
)

// SSM is the part of the SSM client that reading configuration needs. *ssm.Client
// implements it. Its own retries are bounded by the context that it is given.
type SSM interface {
	GetParametersByPath(context.Context, *ssm.GetParametersByPathInput, ...func(*ssm.Options)) (*ssm.GetParametersByPathOutput, error)
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
	GetParameters(context.Context, *ssm.GetParametersInput, ...func(*ssm.Options)) (*ssm.GetParametersOutput, error)
}

var (
	errNoClient    = errors.New("reading SSM parameters needs an SSM client, and there is none")
	errNoParameter = errors.New("does not exist")
)

// batch is the most parameters that SSM returns in one answer.
const batch = 10

// parameters reads every parameter directly under the path. A page may be empty and
// still announce a next one.
func (s Source) parameters(ctx context.Context, client SSM) ([]Document, error) {
	var docs []Document
	in := &ssm.GetParametersByPathInput{
		Path: aws.String(s.path), WithDecryption: aws.Bool(true), Recursive: aws.Bool(false), MaxResults: aws.Int32(batch),
	}
	for {
		out, err := client.GetParametersByPath(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, p := range out.Parameters {
			name, err := parameterName(p)
			if err != nil {
				return nil, err
			}
			docs = append(docs, document("ssm:"+name, path.Base(name), *p.Value, 0))
		}
		if err := bounded(docs); err != nil {
			return nil, err
		}
		next := aws.ToString(out.NextToken)
		if next == "" {
			break
		}
		if next == aws.ToString(in.NextToken) {
			return nil, errors.New("the answer's pages do not end: the same NextToken came twice")
		}
		in.NextToken = out.NextToken
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("no parameters directly under %s", s.path)
	}
	return docs, nil
}

// parameter reads the one parameter.
func (s Source) parameter(ctx context.Context, client SSM) ([]Document, error) {
	out, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(s.path), WithDecryption: aws.Bool(true)})
	if err != nil {
		return nil, err
	}
	if out.Parameter == nil {
		return nil, errNoAnswer
	}
	if _, err := parameterName(*out.Parameter); err != nil {
		return nil, err
	}
	return []Document{document("ssm:"+s.path, "", *out.Parameter.Value, 0)}, nil
}

var errNoAnswer = errors.New("the answer has no name or value")

func parameterName(p types.Parameter) (string, error) {
	if p.Name == nil || p.Value == nil {
		return "", errNoAnswer
	}
	return *p.Name, nil
}

// resolved is what became of a reference.
type resolved struct {
	value string
	err   error // errNoParameter, or why it could not be read now
}

// resolve reads the named parameters, ten in a call. A failure of single parameters
// (missing, access denied) is kept with them; an error means that SSM could not be
// asked at all.
func resolve(ctx context.Context, client SSM, names []string) (map[string]resolved, error) {
	out := make(map[string]resolved, len(names))
	if client == nil {
		for _, name := range names {
			out[name] = resolved{err: errNoClient}
		}
		return out, nil
	}
	for chunk := range slices.Chunk(names, batch) {
		err := resolveBatch(ctx, client, chunk, out)
		if err != nil && concernsParameters(err) {
			err = resolveEach(ctx, client, chunk, out)
		}
		if err != nil {
			return nil, fmt.Errorf("reading parameters that the configuration refers to: %w", err)
		}
	}
	return out, nil
}

// resolveEach asks for one parameter at a time: a call is refused as a whole, and one
// refused parameter must not spoil the others.
func resolveEach(ctx context.Context, client SSM, names []string, out map[string]resolved) error {
	for _, name := range names {
		err := resolveBatch(ctx, client, []string{name}, out)
		if err != nil && !concernsParameters(err) {
			return err
		}
		if err != nil {
			out[name] = resolved{err: refusal(err)}
		}
	}
	return nil
}

func resolveBatch(ctx context.Context, client SSM, names []string, out map[string]resolved) error {
	answer, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: names, WithDecryption: aws.Bool(true)})
	if err != nil {
		return err
	}
	for _, name := range names {
		out[name] = resolved{err: errNoParameter}
	}
	for _, p := range answer.Parameters {
		name, err := parameterName(p)
		if err != nil {
			return err
		}
		key := name + aws.ToString(p.Selector)
		if p.Selector == nil && !slices.Contains(names, key) {
			key = fmt.Sprintf("%s:%d", name, p.Version) // emulators leave the selector out
		}
		out[key] = resolved{value: *p.Value}
	}
	return nil
}

// concernsParameters reports whether the call was refused because of its parameters,
// rather than because SSM was busy or away.
func concernsParameters(err error) bool {
	refused, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	_, busy := awsretry.DefaultThrottleErrorCodes[refused.ErrorCode()]
	return !busy && refused.ErrorFault() != smithy.FaultServer
}

// refusal is the short form of why a parameter was refused.
func refusal(err error) error {
	refused, _ := errors.AsType[smithy.APIError](err)
	return fmt.Errorf("cannot be read: %s", refused.ErrorCode())
}
