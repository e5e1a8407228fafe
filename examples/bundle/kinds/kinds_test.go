package kinds_test

import (
	"context"
	"testing"

	"backstop/lib/config"

	_ "example.org/team/bundle/kinds"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// parameters has a value for each parameter that is asked for.
type parameters struct{ config.SSM }

func (parameters) GetParameters(_ context.Context, in *ssm.GetParametersInput, _ ...func(*ssm.Options)) (*ssm.GetParametersOutput, error) {
	out := &ssm.GetParametersOutput{}
	value := "not-the-real-one"
	for _, name := range in.Names {
		out.Parameters = append(out.Parameters, types.Parameter{Name: &name, Value: &value})
	}
	return out, nil
}

// What `backstop config check` does, with the kinds of this bundle.
func TestTheConfigurationHasNoFaults(t *testing.T) {
	source, err := config.ParseSource("file:../config/sinks")
	if err != nil {
		t.Fatal(err)
	}
	findings, err := config.Check(t.Context(), source, parameters{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if !f.Note { // the sample's host is nobody's own
			t.Error(f)
		}
	}
}
