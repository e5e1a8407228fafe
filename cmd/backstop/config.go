package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/spf13/cobra"

	"backstop/lib/config"
	// The kinds whose configuration can be checked.
	_ "backstop/lib/sinks/apns"
	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/fcm"
	_ "backstop/lib/sinks/http"
	_ "backstop/lib/sinks/slack"
	_ "backstop/lib/sinks/webhook"
	_ "backstop/lib/sinks/webpush"
)

func newConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check the sinks' configuration, and write it to SSM Parameter Store",
		Example: `  backstop config check config/sinks
  backstop config push config/sinks ssm:/backstop/prod/sinks`,
	}
	group(c, nil)
	c.AddCommand(newConfigCheck(), newConfigPush())
	return c
}

func newConfigCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check SOURCE",
		Short: "Say what is wrong with a configuration: where, what, and what was meant",
		Long: `Check reads the sinks' configuration as the functions do, and prints every fault with its file or parameter,
line, column and key. A note is no fault: what is configured can be used, and may not be what is meant, such as a
placeholder that was not filled in. Nothing is sent and no configured value is printed. The exit code is 1 when there is a fault.

SOURCE is a folder (one file for each sink), a file with all sinks, ssm:/PATH/* (one parameter for each
sink) or ssm:/PATH (one parameter with all). Parameters are read with your AWS credentials; so are those that
a folder refers to with {ssm: /path}.`,
		Example: `  backstop config check config/sinks
  backstop config check 'ssm:/backstop/prod/sinks/*'
  backstop config check config/sinks -o json | jq -r '.findings[].key'`,
		Args: cobra.ExactArgs(1),
	}
	addFormat(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		asJSON, err := wantsJSON(c)
		if err != nil {
			return err
		}
		source, err := readSource(args[0])
		if err != nil {
			return err
		}
		findings, err := check(c.Context(), source)
		if err != nil {
			return err
		}
		if asJSON {
			if findings == nil {
				findings = []config.Finding{}
			}
			err = marshalJSON(c.OutOrStdout(), map[string]any{"findings": findings})
		} else {
			err = printFindings(c, source, findings)
		}
		if err != nil {
			return err
		}
		return faulty(findings)
	}
	return c
}

// readSource reads a source as config.ParseSource does, and takes a bare path for a file
// or folder.
func readSource(arg string) (config.Source, error) {
	if !strings.HasPrefix(arg, "ssm:") && !strings.HasPrefix(arg, "file:") {
		arg = "file:" + arg
	}
	s, err := config.ParseSource(arg)
	if err != nil {
		return s, usage("%w", err)
	}
	return s, nil
}

// check finds the faults. Credentials are looked for only when they are needed.
func check(ctx context.Context, source config.Source) ([]config.Finding, error) {
	findings, err := config.Check(ctx, source, lazySSM(sync.OnceValues(func() (*ssm.Client, error) { return ssmClient(ctx) })))
	if code, ok := awsCode(err); ok && code == exitNotFound && source.SSM() {
		err = hinted(err, "For one parameter for each sink, write '%s/*'.", source)
	}
	return findings, err
}

// lazySSM is a client that is made when it is first used.
type lazySSM func() (*ssm.Client, error)

func (l lazySSM) GetParametersByPath(ctx context.Context, in *ssm.GetParametersByPathInput, o ...func(*ssm.Options)) (*ssm.GetParametersByPathOutput, error) {
	client, err := l()
	if err != nil {
		return nil, err
	}
	return client.GetParametersByPath(ctx, in, o...)
}

func (l lazySSM) GetParameter(ctx context.Context, in *ssm.GetParameterInput, o ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	client, err := l()
	if err != nil {
		return nil, err
	}
	return client.GetParameter(ctx, in, o...)
}

func (l lazySSM) GetParameters(ctx context.Context, in *ssm.GetParametersInput, o ...func(*ssm.Options)) (*ssm.GetParametersOutput, error) {
	client, err := l()
	if err != nil {
		return nil, err
	}
	return client.GetParameters(ctx, in, o...)
}

func ssmClient(ctx context.Context) (*ssm.Client, error) {
	cfg, err := awsConfig(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		return nil, usage("parameters are read from a region: set AWS_REGION")
	}
	return ssm.NewFromConfig(cfg), nil
}

func printFindings(c *cobra.Command, source config.Source, findings []config.Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintln(c.OutOrStdout(), printable(f.String())); err != nil {
			return err
		}
	}
	if countFaults(findings) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s: no faults\n", source)
	return err
}

// countFaults returns the number of findings that are no notes.
func countFaults(findings []config.Finding) int {
	n := 0
	for _, f := range findings {
		if !f.Note {
			n++
		}
	}
	return n
}

// faulty is the error that findings stand for.
func faulty(findings []config.Finding) error {
	n := countFaults(findings)
	if n == 0 {
		return nil
	}
	return &exitError{code: exitFailed, err: fmt.Errorf("%s found", plural(int64(n), "fault"))}
}
