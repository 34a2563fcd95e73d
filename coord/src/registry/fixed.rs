//! Records of instances that nobody registers.

use super::{InstanceHealth, InstanceSpec, Registry, registration::REGISTER};
use crate::{
    client::{Op, Txn},
    error::{Context, Error, Result},
};

impl Registry {
    /// Writes the record of a healthy instance that nobody of this program's kind runs. No lease keeps
    /// it: it stands until it is deleted.
    pub(crate) async fn put_fixed(&self, spec: InstanceSpec) -> Result<()> {
        let context = || Context::new(REGISTER).key(&spec.service);
        let zone = spec.zone.as_deref().unwrap_or_default();
        let faults = spec.faults(self.engine.options.registry.ttl);
        if !faults.is_empty() {
            let context = context();
            return Err(Error::Invalid { context, faults });
        }
        let record = spec.clone().record();
        // Written twice it is one record.
        let key = (self.engine.layout).instance(&spec.service, zone, &record.address)?;
        let put = Op::Put {
            key: key.as_bytes().to_vec(),
            value: record.encode(InstanceHealth::Healthy, None),
            lease: 0,
        };
        let txn = Txn {
            then: vec![put],
            ..Txn::default()
        };
        let written = self.engine.write_again(txn).await;
        written.map_err(|error| error.into_error(context()))?;
        Ok(())
    }
}
