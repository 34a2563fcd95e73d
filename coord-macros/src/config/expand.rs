//! From the [`Model`] to the `impl`s.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use super::{
    bounds::{self, Way},
    model::{Check, Default, Field, Format, Kind, Model, Read, Unknown},
};

/// What every part of an expansion needs. Its locals are not call-site: a default's expression must
/// not see them. They are not plain either: a pattern `scope` would mean a constant of the user's that
/// is called so.
struct Expansion<'m> {
    model: &'m Model,
    private: TokenStream,
    scope: syn::Ident,
    fields: syn::Ident,
    old: syn::Ident,
}

pub(crate) fn expand(model: &Model) -> TokenStream {
    let krate = &model.krate;
    let local = |name: &str| syn::Ident::new(name, Span::mixed_site());
    let it = Expansion {
        model,
        private: quote!(#krate::private::config),
        scope: local("__coord_scope"),
        fields: local("__coord_fields"),
        old: local("__coord_old"),
    };
    let read = it.read();
    let write = model.write.then(|| it.write());
    let apart = it.apart();
    quote!(#read #write #apart)
}

/// An `impl` that stands in for the real one after an error.
pub(crate) fn stub(model: &Model) -> TokenStream {
    if model.generics.lifetimes().next().is_some() {
        // No `impl` of a `'static` trait can be made for it.
        return TokenStream::new();
    }
    let krate = &model.krate;
    let private = quote!(#krate::private::config);
    let body = quote! {
        const SHAPE: #private::Shape = #private::Shape::keys(&[]);

        fn decode(
            _: &#private::Scope<'_>,
            _: ::core::option::Option<&Self>,
        ) -> ::core::option::Option<Self> {
            ::core::option::Option::None
        }
    };
    let read = bounds::implement(model, Way::Read, &body);
    let write = model.write.then(|| {
        let body = quote!(fn encode(&self, _: &mut #private::Encoder) {});
        bounds::implement(model, Way::Write, &body)
    });
    quote!(#read #write)
}

impl Expansion<'_> {
    /// The fields that have a key, each with its index in `FIELDS`.
    fn indexed(&self) -> impl Iterator<Item = (usize, &Field)> {
        let read = self.model.fields.iter().filter(|field| field.is_read());
        read.enumerate()
    }

    fn read(&self) -> TokenStream {
        let Self {
            model,
            private,
            scope,
            fields,
            old,
        } = self;
        let krate = &model.krate;
        let prefix = model.prefix.as_ref().map(|prefix| {
            quote! {
                const PREFIX: ::core::option::Option<&'static ::core::primitive::str> =
                    ::core::option::Option::Some(#prefix);
            }
        });
        let local = |field: &Field| {
            let name = format!("__coord_field_{}", field.name);
            syn::Ident::new(&name, Span::mixed_site())
        };
        let shape = self.indexed().map(|(_, field)| self.about(field));
        let document = model.document.map(|format| {
            let format = self.format(format);
            quote!(.document(#format))
        });
        let unknown = model.unknown.map(|unknown| {
            let unknown = match unknown {
                Unknown::Warn => quote!(Warn),
                Unknown::Deny => quote!(Deny),
                Unknown::Ignore => quote!(Ignore),
            };
            quote!(.unknown(#private::Unknown::#unknown))
        });
        let reads = self.indexed().map(|(index, field)| {
            let local = local(field);
            let read = self.field(index, field);
            quote!(let #local = #read;)
        });
        let members = model.fields.iter().map(|field| {
            let ident = &field.ident;
            let value = match &field.kind {
                Kind::Skip(default) => self.skipped(&field.ty, default),
                _ => {
                    let local = local(field);
                    quote!(#local?)
                }
            };
            quote!(#ident: #value)
        });
        let whole = quote!(::core::option::Option::Some(Self { #(#members),* }));
        let whole = if model.validate.is_empty() {
            whole
        } else {
            let checks: Vec<_> = model.validate.iter().cloned().map(Check::That).collect();
            let check = self.check(&checks);
            // A closure, so that a `?` ends the struct alone and not the check.
            quote!(#scope.whole(|| #whole, #check))
        };
        let probes = self.probes(&["ViaConfig", "ViaSerde"]);
        let reading = self.probes(&[
            "ViaConfig",
            "ViaSerde",
            "ViaKey",
            "ViaFromStr",
            "ViaClone",
            "ViaNothing",
        ]);
        let body = quote! {
            #prefix

            const SHAPE: #private::Shape =
                #private::Shape::keys(const { #probes &[#(#shape),*] }) #document #unknown;

            fn decode(
                #scope: &#private::Scope<'_>,
                #old: ::core::option::Option<&Self>,
            ) -> ::core::option::Option<Self> {
                #reading
                let #fields = <Self as #krate::CoordConfig>::FIELDS;
                // Every field is read before the first that failed ends it.
                #(#reads)*
                #whole
            }
        };
        bounds::implement(model, Way::Read, &body)
    }

    /// One of `FIELDS`.
    fn about(&self, field: &Field) -> TokenStream {
        let private = &self.private;
        let (name, key, ty) = (&field.name, &field.key.text, &field.ty);
        let of = match &field.kind {
            Kind::Leaf(..) | Kind::Skip(_) => quote!(#private::Field::leaf(#name, #key)),
            Kind::Flat => quote!(#private::Field::flat::<#ty>(#name)),
            Kind::Nested => {
                let shape = self.probe(&quote!(#ty), "shape");
                quote!(#private::Field::nested(#name, #key, || #shape))
            }
            Kind::Map { .. } => {
                let shape = self.probe(&self.of_map(ty, "Value"), "shape");
                quote!(#private::Field::map(#name, #key, || #shape))
            }
        };
        let (type_name, doc) = (compact(&field.ty), &field.doc);
        let aliases = field.aliases.iter().map(|alias| &alias.text);
        let aliases = (!field.aliases.is_empty()).then(|| quote!(.or_else(&[#(#aliases),*])));
        let secret = field.secret.then(|| quote!(.secret()));
        let optional = field.optional.then(|| quote!(.optional()));
        let default = match &field.kind {
            Kind::Leaf(Default::Own(_), _) => Some(quote!(.default_code("Default::default()"))),
            Kind::Leaf(Default::Text(text), _) => Some(quote!(.default_text(#text))),
            Kind::Leaf(Default::Value(value), _) => {
                let code = compact(value);
                Some(quote!(.default_code(#code)))
            }
            _ => None,
        };
        quote!(#of.about(#type_name, #doc) #aliases #default #optional #secret)
    }

    /// What reads one field.
    fn field(&self, index: usize, field: &Field) -> TokenStream {
        let Self {
            private,
            scope,
            fields,
            old,
            ..
        } = self;
        let (ident, ty) = (&field.ident, &field.ty);
        let place = quote!(&#fields[#index]);
        let check = self.check(&field.checks);
        let was = syn::Ident::new("__coord_was", Span::mixed_site());
        let old = quote!(#old.map(|#was| &#was.#ident));
        match &field.kind {
            Kind::Leaf(default, read) => {
                let default = self.default(ty, default);
                let read = match read {
                    Read::Plain => quote!(#private::plain::<#ty>()),
                    Read::Codec(Format::Json) => quote!(#private::json::<#ty>()),
                    Read::Codec(Format::Toml(span)) => {
                        let private = at(private, *span);
                        quote_spanned!(site(*span)=> #private::toml::<#ty, #private::Toml>())
                    }
                    Read::With(path) => {
                        let value = syn::Ident::new("__coord_value", Span::mixed_site());
                        let span = site(path.span());
                        quote_spanned!(span=> |#value| #path::deserialize(#value))
                    }
                };
                quote!(#scope.leaf::<#ty>(#place, #default, #read, #check))
            }
            Kind::Nested => {
                quote!(#scope.nested::<#ty>(#place, #old, #private::config::<#ty>(), #check))
            }
            Kind::Map { structs } => {
                let key = self.probe(&self.of_map(ty, "Key"), "read_key");
                let value = self.of_map(ty, "Value");
                let value = match structs {
                    true => {
                        let private = at(private, ty.span());
                        quote_spanned!(site(ty.span())=> #private::config::<#value>())
                    }
                    false => self.probe(&value, "read"),
                };
                let clone = self.probe(&quote!(#ty), "cloner");
                quote!(#scope.map::<#ty>(#place, #old, #key, #value, #clone, #check))
            }
            Kind::Flat => quote!(#scope.flat::<#ty>(#place, #old)),
            Kind::Skip(_) => TokenStream::new(),
        }
    }

    fn write(&self) -> TokenStream {
        let Self {
            model,
            private,
            fields,
            ..
        } = self;
        let krate = &model.krate;
        let into = syn::Ident::new("__coord_into", Span::mixed_site());
        let writes = self.indexed().map(|(index, field)| {
            let (ident, ty) = (&field.ident, &field.ty);
            let place = quote!(&#fields[#index]);
            match &field.kind {
                Kind::Leaf(_, Read::Plain) => quote!(#into.leaf::<#ty>(#place, &self.#ident)),
                Kind::Leaf(_, Read::Codec(format)) => {
                    let format = self.format(*format);
                    quote!(#into.document::<#ty>(#place, #format, &self.#ident))
                }
                Kind::Leaf(_, Read::With(path)) => {
                    let to = syn::Ident::new("__coord_to", Span::mixed_site());
                    let span = site(path.span());
                    // `self` is the function's, which is not mixed-site.
                    let value = quote!(&self.#ident);
                    let write = quote_spanned!(span=> |#to| #path::serialize(#value, #to));
                    quote!(#into.with(#place, #write, #write))
                }
                Kind::Nested => quote!(#into.nested::<#ty>(#place, &self.#ident)),
                Kind::Flat => {
                    quote!(<#ty as #krate::config::WriteConfig>::encode(&self.#ident, #into))
                }
                Kind::Map { structs } => {
                    let key = self.probe(&self.of_map(ty, "Key"), "write_key");
                    let value = self.of_map(ty, "Value");
                    let value = match structs {
                        true => {
                            let private = at(private, ty.span());
                            quote_spanned!(site(ty.span())=> #private::write_config::<#value>())
                        }
                        false => self.probe(&value, "write"),
                    };
                    quote!(#into.map::<#ty>(#place, &self.#ident, #key, #value))
                }
                Kind::Skip(_) => TokenStream::new(),
            }
        });
        let writing = self.probes(&[
            "ViaWriteConfig",
            "ViaSerialize",
            "ViaWriteKey",
            "ViaDisplay",
        ]);
        let body = quote! {
            fn encode(&self, #into: &mut #private::Encoder) {
                #writing
                let #fields = <Self as #krate::CoordConfig>::FIELDS;
                #(#writes;)*
            }
        };
        bounds::implement(model, Way::Write, &body)
    }

    /// The keys of flattened structs are known to the compiler alone.
    fn apart(&self) -> Option<TokenStream> {
        let flat = self
            .model
            .fields
            .iter()
            .find(|field| matches!(field.kind, Kind::Flat))?;
        let (krate, private, ident) = (&self.model.krate, &self.private, &self.model.ident);
        let private = at(private, flat.ty.span());
        let span = site(flat.ty.span());
        // A generic struct's constants are not evaluated before it is used.
        self.model.generics.params.is_empty().then(|| {
            quote_spanned! {span=>
                const _: () = #private::apart(<#ident as #krate::CoordConfig>::FIELDS);
            }
        })
    }

    fn default(&self, ty: &syn::Type, default: &Default) -> TokenStream {
        let private = &self.private;
        match default {
            Default::None => quote!(#private::Default::None),
            Default::Own(span) => {
                let own = own_default(ty, *span);
                quote!(#private::Default::Value::<#ty>(#own))
            }
            Default::Text(text) => quote!(#private::Default::Text(#text)),
            Default::Value(value) => {
                let make = quote_spanned!(site(value.span())=> || #value);
                quote!(#private::Default::Value::<#ty>(#make))
            }
        }
    }

    /// The value of a field that has no key.
    fn skipped(&self, ty: &syn::Type, default: &Default) -> TokenStream {
        match default {
            Default::None => {
                let own = own_default(ty, ty.span());
                quote!(#own())
            }
            Default::Own(span) => {
                let own = own_default(ty, *span);
                quote!(#own())
            }
            Default::Text(text) => quote!(::core::convert::Into::into(#text)),
            Default::Value(value) => value.to_token_stream(),
        }
    }

    fn check(&self, checks: &[Check]) -> TokenStream {
        let private = &self.private;
        if checks.is_empty() {
            return quote!(#private::unchecked);
        }
        let value = syn::Ident::new("__coord_value", Span::mixed_site());
        let into = syn::Ident::new("__coord_checks", Span::mixed_site());
        let checks = checks.iter().map(|check| match check {
            Check::That(path) => {
                let span = site(path.span());
                let value = syn::Ident::new("__coord_value", span);
                quote_spanned!(span=> #into.that(#path(#value));)
            }
            Check::Range(range) => {
                let span = site(range.span());
                let text = format!("`{}`", compact(range));
                quote_spanned!(span=> #into.range(#value, &(#range), #text);)
            }
        });
        quote!(|#value, #into| { #(#checks)* })
    }

    fn format(&self, format: Format) -> TokenStream {
        let private = &self.private;
        match format {
            Format::Json => quote!(#private::Format::Json),
            Format::Toml(span) => {
                let private = at(private, span);
                quote_spanned!(site(span)=> #private::toml_format::<#private::Toml>())
            }
        }
    }

    /// A map's `Key` or `Value`, said under its type.
    fn of_map(&self, ty: &syn::Type, part: &str) -> TokenStream {
        let private = at(&self.private, ty.span());
        let part = syn::Ident::new(part, site(ty.span()));
        quote_spanned!(site(ty.span())=> <#ty as #private::Map>::#part)
    }

    /// What is known of `ty` without a bound. Two `&`: see `Probe`.
    fn probe(&self, ty: &TokenStream, method: &str) -> TokenStream {
        let private = at(&self.private, ty.span());
        let method = syn::Ident::new(method, site(ty.span()));
        quote_spanned!(site(ty.span())=> (&&#private::Probe::<#ty>::new()).#method())
    }

    /// The traits whose methods a probe has.
    fn probes(&self, traits: &[&str]) -> Option<TokenStream> {
        let private = &self.private;
        let traits = traits.iter().map(|name| format_ident!("{name}"));
        self.model
            .fields
            .iter()
            .any(|field| matches!(field.kind, Kind::Map { .. } | Kind::Nested))
            .then(|| quote!(use #private::probe::{#(#traits as _),*};))
    }
}

/// Where the user wrote something, and yet ours.
fn site(span: Span) -> Span {
    span.resolved_at(Span::mixed_site())
}

/// The same tokens, said at `span`.
fn at(tokens: &TokenStream, span: Span) -> TokenStream {
    let tokens = tokens.clone().into_iter();
    tokens
        .map(|mut token| {
            token.set_span(site(span));
            token
        })
        .collect()
}

fn own_default(ty: &syn::Type, span: Span) -> TokenStream {
    quote_spanned! {site(span)=>
        <#ty as ::core::default::Default>::default
    }
}

/// Tokens as one writes them: `Option<Vec<u8>>`.
fn compact(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (loose, tight) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" ..= ", "..="),
        (" .. ", ".."),
        (" ..", ".."),
        (".. ", ".."),
        ("..= ", "..="),
        (" (", "("),
        ("& ", "&"),
        (" . ", "."),
        (" !", "!"),
        (" [", "["),
    ] {
        text = text.replace(loose, tight);
    }
    text
}
