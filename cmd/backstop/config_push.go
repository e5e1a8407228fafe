package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"backstop/lib/config"
	"backstop/lib/sinks"
)

// Sizes of parameters, in bytes: of the free tier, and of the advanced one.
const (
	standardSize = 4096
	advancedSize = 8192
)

func newConfigPush() *cobra.Command {
	var p push
	var dryRun, yes bool
	c := &cobra.Command{
		Use:   "push DIR ssm:PATH",
		Short: "Write a checked configuration to SSM Parameter Store",
		Long: `Push checks the configuration (as 'config check' does; a fault ends it), shows which parameters are new,
changed, unchanged or extra (there, but not in DIR), asks, and writes the new and changed ones as
SecureStrings. No configured value is ever printed. Running functions take the change up within their TTL
(BACKSTOP_SINKS_TTL, five minutes).

A value that is a placeholder, such as replace-me, a host of example.org or the example of a kind, ends it too:
--allow-placeholders is for one that is meant.

A folder becomes one parameter for each sink under PATH; a file with all sinks becomes the parameter PATH.
Extra parameters stay unless --prune is given: then they are deleted, which cannot be undone.`,
		Example: `  backstop config push config/sinks ssm:/backstop/prod/sinks --dry-run
  backstop config push config/sinks ssm:/backstop/prod/sinks --kms-key alias/backstop
  backstop config push config/sinks ssm:/backstop/prod/sinks --prune --yes`,
		Args: cobra.ExactArgs(2),
	}
	f := c.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "only show the difference")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&p.prune, "prune", false, "delete extra parameters under PATH")
	f.BoolVar(&p.placeholders, "allow-placeholders", false, "write values that look like a sample's, too")
	f.StringVar(&p.key, "kms-key", "", "KMS key to encrypt with (default: that which the parameter has, else the account's)")
	c.RunE = func(c *cobra.Command, args []string) error {
		docs, err := p.read(c, args[0], args[1])
		if err != nil {
			return err
		}
		if p.client, err = ssmClient(c.Context()); err != nil {
			return err
		}
		if err := p.compare(c.Context(), docs); err != nil {
			return err
		}
		if err := p.print(c); err != nil {
			return err
		}
		question := p.question()
		if dryRun || question == "" {
			return nil
		}
		if err := confirm(c, yes, question); err != nil {
			return err
		}
		return p.apply(c)
	}
	return c
}

// question asks for what the push would do; it is empty when there is nothing to do.
func (p *push) question() string {
	n, extra := p.count(changeNew)+p.count(changeChanged), 0
	if p.prune {
		extra = p.count(changeExtra)
	}
	switch {
	case n+extra == 0:
		return ""
	case extra > 0:
		return fmt.Sprintf("Write %s under %s and delete %d for good?", plural(int64(n), "parameter"), p.path, extra)
	}
	return fmt.Sprintf("Write %s under %s?", plural(int64(n), "parameter"), p.path)
}

// change is what a push does to one parameter.
type change string

const (
	changeNew       change = "new"
	changeChanged   change = "changed"
	changeUnchanged change = "unchanged"
	changeExtra     change = "extra"
)

// parameter is one parameter, as it is and as it shall be.
type parameter struct {
	name   string
	change change
	value  sinks.Secret // as it shall be
	key    string       // the KMS key that it has
}

// push writes documents to parameters.
type push struct {
	client *ssm.Client
	path   string // of the parameters, or the one parameter's name
	single bool
	prune  bool
	key    string
	// placeholders are written like any other value.
	placeholders bool

	parameters []parameter
}

// read checks the source and returns its documents.
func (p *push) read(c *cobra.Command, from, to string) ([]config.Document, error) {
	source, err := readSource(from)
	if err != nil {
		return nil, err
	}
	if source.SSM() || !strings.HasPrefix(to, "ssm:") {
		return nil, usage("want a folder or file, then ssm:/PATH")
	}
	target, err := config.ParseSource(to)
	if err != nil {
		return nil, usage("%w", err)
	}
	findings, err := check(c.Context(), source)
	if err != nil {
		return nil, err
	}
	if len(findings) > 0 {
		if err := errors.Join(printFindings(c, source, findings), faulty(findings)); err != nil {
			return nil, err
		}
		if err := p.refused(findings); err != nil {
			return nil, err
		}
	}
	docs, err := source.Documents(c.Context(), nil)
	if err != nil {
		return nil, err
	}
	name, all := strings.CutSuffix(strings.TrimPrefix(target.String(), "ssm:"), "/*")
	p.path, p.single = name, docs[0].Name == ""
	switch {
	case p.single && all:
		return nil, usage("%s is one file with all sinks: name one parameter, ssm:%s", from, name)
	case p.single && p.prune:
		return nil, usage("--prune goes with a folder")
	}
	for _, d := range docs {
		if n := len(d.Text.Reveal()); n > advancedSize {
			return nil, usage("%s has %d bytes; a parameter holds %d. Keep long values in parameters of their own: {ssm: /path}", d.Source, n, advancedSize)
		}
	}
	return docs, nil
}

// refused is the error of a configuration that still has a sample's values.
func (p *push) refused(findings []config.Finding) error {
	n := 0
	for _, f := range findings {
		if f.Placeholder {
			n++
		}
	}
	if n == 0 || p.placeholders {
		return nil
	}
	return &exitError{
		code: exitFailed, err: fmt.Errorf("%s left: nothing is written", plural(int64(n), "placeholder")),
		hint: "Put your own values there. If one is meant, add --allow-placeholders.",
	}
}

// compare finds out what is there.
func (p *push) compare(ctx context.Context, docs []config.Document) error {
	there, err := p.existing(ctx)
	if err != nil {
		return err
	}
	keys, err := p.keys(ctx, there)
	if err != nil {
		return err
	}
	for _, d := range docs {
		x := parameter{name: p.path, change: changeNew, value: d.Text}
		if !p.single {
			x.name = p.path + "/" + d.Name
		}
		if is, ok := there[x.name]; ok {
			if is.Type != types.ParameterTypeSecureString {
				return fmt.Errorf("%s is a %s, not encrypted, and SSM cannot change that: delete it first (aws ssm delete-parameter --name %[1]s)", x.name, is.Type)
			}
			x.change, x.key = changeChanged, keys[x.name]
			if aws.ToString(is.Value) == d.Text.Reveal() {
				x.change = changeUnchanged
			}
			delete(there, x.name)
		}
		p.parameters = append(p.parameters, x)
	}
	for name := range there {
		p.parameters = append(p.parameters, parameter{name: name, change: changeExtra})
	}
	slices.SortFunc(p.parameters, func(a, b parameter) int { return strings.Compare(a.name, b.name) })
	return nil
}

// existing reads the parameters that are there, decrypted, by name.
func (p *push) existing(ctx context.Context) (map[string]types.Parameter, error) {
	there := map[string]types.Parameter{}
	if p.single {
		out, err := p.client.GetParameter(ctx, &ssm.GetParameterInput{Name: &p.path, WithDecryption: aws.Bool(true)})
		if code, ok := awsCode(err); ok && code == exitNotFound {
			return there, nil
		}
		if err == nil && out.Parameter != nil {
			there[p.path] = *out.Parameter
		}
		return there, err
	}
	pages := ssm.NewGetParametersByPathPaginator(p.client, &ssm.GetParametersByPathInput{Path: &p.path, WithDecryption: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, x := range page.Parameters {
			there[aws.ToString(x.Name)] = x
		}
	}
	return there, nil
}

// keys finds out which KMS keys parameters have: a write that names none would move them
// to the account's own.
func (p *push) keys(ctx context.Context, there map[string]types.Parameter) (map[string]string, error) {
	keys := map[string]string{}
	if len(there) == 0 || p.key != "" {
		return keys, nil
	}
	filter := types.ParameterStringFilter{Key: aws.String("Path"), Option: aws.String("OneLevel"), Values: []string{p.path}}
	if p.single {
		filter = types.ParameterStringFilter{Key: aws.String("Name"), Option: aws.String("Equals"), Values: []string{p.path}}
	}
	pages := ssm.NewDescribeParametersPaginator(p.client, &ssm.DescribeParametersInput{ParameterFilters: []types.ParameterStringFilter{filter}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("which KMS keys the parameters have (or name one with --kms-key): %w", err)
		}
		for _, x := range page.Parameters {
			keys[aws.ToString(x.Name)] = aws.ToString(x.KeyId)
		}
	}
	return keys, nil
}

func (p *push) count(c change) int {
	n := 0
	for _, x := range p.parameters {
		if x.change == c {
			n++
		}
	}
	return n
}

func (p *push) print(c *cobra.Command) error {
	t := newTable("PARAMETER", "CHANGE")
	for _, x := range p.parameters {
		what := string(x.change)
		if x.change == changeExtra && p.prune {
			what += ", to be deleted"
		}
		t.add(x.name, what)
	}
	return t.print(c.OutOrStdout())
}

// apply writes, then prunes. It stops at the first error; parameters that were written
// stay, and the same push goes on where it stopped.
func (p *push) apply(c *cobra.Command) error {
	done := func(what, name string) error {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s\n", what, name)
		return err
	}
	for _, x := range p.parameters {
		if x.change != changeNew && x.change != changeChanged {
			continue
		}
		if err := p.put(c.Context(), x); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		if err := done("wrote", x.name); err != nil {
			return err
		}
	}
	for _, x := range p.parameters {
		if x.change != changeExtra || !p.prune {
			continue
		}
		if _, err := p.client.DeleteParameter(c.Context(), &ssm.DeleteParameterInput{Name: aws.String(x.name)}); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
		if err := done("deleted", x.name); err != nil {
			return err
		}
	}
	return nil
}

func (p *push) put(ctx context.Context, x parameter) error {
	in := &ssm.PutParameterInput{
		Name: aws.String(x.name), Value: aws.String(x.value.Reveal()), Type: types.ParameterTypeSecureString,
		Overwrite: aws.Bool(x.change == changeChanged), // a new one that has appeared meanwhile is somebody else's
	}
	for _, key := range []string{p.key, x.key} {
		if key != "" {
			in.KeyId = aws.String(key)
			break
		}
	}
	if len(x.value.Reveal()) > standardSize {
		in.Tier = types.ParameterTierAdvanced
	}
	_, err := p.client.PutParameter(ctx, in)
	return withoutValue(err, x.value.Reveal())
}

// withoutValue keeps a value that a service repeats in its complaint out of the text.
func withoutValue(err error, value string) error {
	if err == nil || !strings.Contains(err.Error(), value) {
		return err
	}
	return &exitError{code: exitCode(err), err: errors.New(strings.ReplaceAll(err.Error(), value, "[redacted]"))}
}
