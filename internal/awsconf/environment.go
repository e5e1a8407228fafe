package awsconf

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

// Environment is Load without profiles, and without whatever only they or a machine of EC2 lead to: a function has none of
// that, and its binary no code for it. Credentials are those of the variables, or of AWS_CONTAINER_CREDENTIALS_FULL_URI and
// its relatives; who asks for them without either gets an error that says so. Everything else that the SDK reads from
// the environment counts as in Load.
func Environment(ctx context.Context) (aws.Config, error) {
	env, err := awsconfig.NewEnvConfig()
	if err != nil {
		return aws.Config{}, err
	}
	cfg := aws.Config{
		ConfigSources: []any{env}, // clients read endpoints, FIPS and dual stack here
		Logger:        logging.Nop{}, Region: env.Region, AppID: env.AppID,
		RetryMaxAttempts: env.RetryMaxAttempts, RetryMode: env.RetryMode,
		DefaultsMode:                cmp.Or(env.DefaultsMode, aws.DefaultsModeLegacy),
		DisableRequestCompression:   aws.ToBool(env.DisableRequestCompression),
		DisableClockSkewCorrection:  aws.ToBool(env.DisableClockSkewCorrection),
		RequestMinCompressSizeBytes: 10240,
		AccountIDEndpointMode:       cmp.Or(env.AccountIDEndpointMode, aws.AccountIDEndpointModePreferred),
		RequestChecksumCalculation:  cmp.Or(env.RequestChecksumCalculation, aws.RequestChecksumCalculationWhenSupported),
		ResponseChecksumValidation:  cmp.Or(env.ResponseChecksumValidation, aws.ResponseChecksumValidationWhenSupported),
		AuthSchemePreference:        env.AuthSchemePreference,
		RestrictFilePermissions:     cmp.Or(env.RestrictFilePermissions, aws.RestrictFilePermissionsUserReadWrite),
		APIOptions:                  []func(*middleware.Stack) error{withoutToken},
	}
	if n := env.RequestMinCompressSizeBytes; n != nil {
		cfg.RequestMinCompressSizeBytes = *n
	}
	if env.BaseEndpoint != "" && !aws.ToBool(env.IgnoreConfiguredEndpoints) {
		cfg.BaseEndpoint = &env.BaseEndpoint
	}
	if cfg.DefaultsMode == aws.DefaultsModeAuto {
		cfg.RuntimeEnvironment = aws.RuntimeEnvironment{
			EnvironmentIdentifier: aws.ExecutionEnvironmentID(variable("AWS_EXECUTION_ENV")), Region: env.Region,
		}
	}
	if err := trust(&cfg, env.CustomCABundle); err != nil {
		return aws.Config{}, err
	}
	cfg.Credentials, err = credentialsOf(ctx, env)
	return cfg, err
}

// variable reads what the SDK's own reading of the environment leaves out.
func variable(name string) string {
	return os.Getenv(name) //nolint:forbidigo // the SDK's own variables
}

// trust has cfg's clients trust the certificates of a file only. Empty: the system's.
func trust(cfg *aws.Config, file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file) //nolint:gosec // AWS_CA_BUNDLE names it
	if err != nil {
		return fmt.Errorf("AWS_CA_BUNDLE: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bytes.TrimSpace(pem)) {
		return fmt.Errorf("AWS_CA_BUNDLE: no certificate in %s", file)
	}
	cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		if tr.TLSClientConfig == nil {
			tr.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		tr.TLSClientConfig.RootCAs = roots
	})
	return nil
}

// expiryWindow is how long before their end credentials are asked for anew.
const expiryWindow = 5 * time.Minute

// credentialsOf returns the environment's credentials.
func credentialsOf(ctx context.Context, env awsconfig.EnvConfig) (aws.CredentialsProvider, error) {
	from := env.ContainerCredentialsEndpoint
	switch {
	case env.Credentials.HasKeys():
		return aws.NewCredentialsCache(credentials.StaticCredentialsProvider{Value: env.Credentials}), nil
	case env.ContainerCredentialsRelativePath != "":
		from = "http://" + containers[0].String() + env.ContainerCredentialsRelativePath
	case from == "":
		return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("no credentials in the environment: want AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_CONTAINER_CREDENTIALS_FULL_URI")
		})), nil
	default:
		if err := checkEndpoint(ctx, from); err != nil {
			return nil, fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI: %w", err)
		}
	}
	provider := endpointcreds.New(from, func(o *endpointcreds.Options) {
		o.AuthorizationToken = env.ContainerAuthorizationToken
		if file := variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				token, err := os.ReadFile(file) //nolint:gosec // the platform names it
				return string(token), err
			})
		}
	})
	return aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow }), nil
}

// containers are where ECS and EKS hand out credentials over plain HTTP.
var containers = []netip.Addr{
	netip.MustParseAddr("169.254.170.2"), netip.MustParseAddr("169.254.170.23"), netip.MustParseAddr("fd00:ec2::23"),
}

// checkEndpoint refuses to ask for credentials in the clear anywhere but on this machine, or where ECS and EKS
// hand them out, as the SDK does. Its errors do not show the URL.
func checkEndpoint(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" {
		return errors.New("want a URL with a host")
	}
	if u.Scheme != "http" {
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a = a.Unmap(); !a.IsLoopback() && a != containers[0] && a != containers[1] && a != containers[2] {
			return errors.New("http:// is taken for this machine, ECS and EKS only")
		}
	}
	return nil
}
